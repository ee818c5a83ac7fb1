package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

const patience = 30 * time.Second

const createWatch = `{"create_request":{"key":"dw=="}}`

// streamed is a request whose answer is compared up to a number of lines, then left.
type streamed struct {
	method, path, body string
	headers            map[string]string
	lines              int // 0: the answer ends by itself
}

func open(path, body string, lines int) streamed {
	return streamed{method: "POST", path: path, body: body, lines: lines}
}

func (s streamed) with(name, value string) streamed {
	s.headers = map[string]string{name: value}
	return s
}

// streams are sent in this order, over HTTP/1.1 and HTTP/2.
var streams = []streamed{
	open("/v3/watch", createWatch, 1),
	open("/v3/watch", `{"create_request":{"key":"dw==","watch_id":"-5"}}`, 1),
	open("/v3/watch", `{"create_request":{"key":"dw==","watch_id":"7"}}{"create_request":{"key":"dw==","watch_id":7}}`, 2),
	open("/v3/watch", createWatch+"\n"+`{"cancel_request":{"watch_id":0}}`, 2),
	open("/v3/watch", createWatch+`{"cancel_request":{"watch_id":9}}{"create_request":{"key":"dw==","prev_kv":true}}`, 2),
	open("/v3/watch", createWatch+`{x`+createWatch, 1),
	open("/v3/watch", createWatch+`{"create_request":5}`+createWatch, 1),
	open("/v3/watch", `{"create_request":{"key":"dw==","start_revision":"2","prev_kv":true}}`, 2),
	open("/v3/watch", `{"create_request":{"key":"dw==","start_revision":2,"filters":["NOPUT"]}}`, 2),
	open("/v3beta/watch", createWatch, 1),
	open("/v3/watch?a=b", createWatch, 1),
	open("/v3/w%61tch", createWatch, 1),
	open("/v3/watch", createWatch, 0).with("Grpc-Timeout", "300m"),
	open("/v3/watch", ``, 0).with("Grpc-Timeout", "300m"),
	open("/v3/watch", createWatch, 0).with("Grpc-Timeout", "1n"),
	open("/v3/watch", createWatch, 0).with("Grpc-Timeout", "-1S"),
	open("/v3/watch", createWatch, 0).with("Grpc-Timeout", "1x"),
	open("/v3/watch", createWatch, 1).with("Grpc-Timeout", "0n"),
	open("/v3/watch", createWatch, 1).with("Grpc-Metadata-Hasleader", "true"),
	open("/v3/lease/keepalive", ``, 0),
	open("/v3/lease/keepalive", `{x`, 0),
	open("/v3/lease/keepalive", `null`, 0),
	open("/v3/lease/keepalive", `{"ID":5}{x`, 0),
	open("/v3/lease/keepalive", `{"ID":5}{"ID":6} {"ID":"7"}`+"\n", 0),
	open("/v3/lease/keepalive", `{"ID":5}`, 0).with("Grpc-Timeout", "x"),
	open("/v3/maintenance/snapshot", `{x`, 0),
	open("/v3/maintenance/snapshot", `{"a":`, 0),
	open("/v3/kv/range", `{"key":"dw=="}`, 0).with("Grpc-Timeout", "1n"),
	open("/v3/kv/range", `{"key":"dw=="}`, 0).with("Grpc-Timeout", "1"),
	open("/v3/kv/range", `{"key":"dw=="}`, 0).with("Grpc-Timeout", "99999999999H"),
	open("/v3/kv/range", `{"key":"dw=="}`, 0).with("Grpc-Metadata-X-Bin", "Zm9v"),
	open("/v3/kv/range", `{"key":"dw=="}`, 0).with("Grpc-Metadata-X-Bin", "Zm9*"),
	open("/v3/kv/range", `{"key":"dw=="}`, 0).with("Grpc-Metadata-Client-Api-Version", "\u00e9"),
	{method: "HEAD", path: "/v3/watch"},
	{method: "HEAD", path: "/v3/nothing"},
	{method: "GET", path: "/v3/watch"},
	{method: "OPTIONS", path: "/v3/watch"},
	// Large bodies: what counts is the message.
	open("/v3/kv/put", strings.Repeat(" ", 5<<20)+`{"key":"dw=="}`, 0),
	open("/v3/kv/put", `{"unknown":"`+strings.Repeat("x", 5<<20)+`","key":"dw=="}`, 0),
	open("/v3/kv/put", `{"key":"dw==","value":"`+strings.Repeat(`\u0041`, 1<<20)+`"}`, 0),
	open("/v3/kv/put", `{"key":"dw=="}`+strings.Repeat("trailing", 1<<20), 0),
}

// streamAnswer is what is compared.
type streamAnswer struct {
	Status  int
	Headers map[string]string
	Chunked bool // Over HTTP/1.1.
	Lines   []any
}

func TestStreams(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			reference := startOnTLS(t, harness.Etcd37(t))
			subject := startOnTLS(t, harness.EtcoreOrReference(t))
			for _, request := range []request{
				post("/v3/kv/put", `{"key":"dw==","value":"MQ=="}`),
				post("/v3/kv/put", `{"key":"dw==","value":"Mg=="}`),
				post("/v3/kv/deleterange", `{"key":"dw=="}`),
			} {
				ask(t, reference, request)
				ask(t, subject, request)
			}
			for _, stream := range streams {
				want, got := begin(t, reference, proto, stream), begin(t, subject, proto, stream)
				if difference := cmp.Diff(want, got); difference != "" {
					body := stream.body[:min(len(stream.body), 200)]
					t.Errorf("%s %s %v %s (-etcd +etcore):\n%s", stream.method, stream.path, stream.headers, body, difference)
				}
			}
		})
	}
}

// A request of many messages is answered whole; over HTTP/1.1 etcd passes over what it has not read by its first answer.
func TestManyKeepAlives(t *testing.T) {
	t.Parallel()
	const count = 20_000
	server := startOnTLS(t, harness.EtcoreOrReference(t))
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		if server.Program.Name == harness.Etcd37(t).Name && proto == "HTTP/1.1" {
			continue
		}
		stream := open("/v3/lease/keepalive", strings.Repeat(`{"ID":5}`+"\n", count), 0)
		if answer := begin(t, server, proto, stream); answer.Status != http.StatusOK || len(answer.Lines) != count {
			t.Errorf("%s: %d, %d answers", proto, answer.Status, len(answer.Lines))
		}
	}
}

// Over HTTP/2 client and server speak in turn; so they do over HTTP/1.1 with etcore, where etcd waits for the end.
func TestTalk(t *testing.T) {
	t.Parallel()
	type party struct {
		name, proto string
		program     harness.Program
	}
	for _, party := range []party{
		{"etcd", "HTTP/2.0", harness.Etcd37(t)},
		{"etcore", "HTTP/2.0", harness.EtcoreOrReference(t)},
		{"etcore", "HTTP/1.1", harness.EtcoreOrReference(t)},
	} {
		if party.name == "etcore" && party.proto == "HTTP/1.1" && party.program.Name == harness.Etcd37(t).Name {
			continue
		}
		t.Run(party.name+" "+party.proto, func(t *testing.T) {
			server := startOnTLS(t, party.program)
			client := clientFor(party.proto)
			reader, writer := io.Pipe()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			outgoing, err := http.NewRequestWithContext(ctx, "POST", "https://"+server.Endpoint+"/v3/watch", reader)
			check(t, err)
			go io.WriteString(writer, createWatch)
			response, err := client.Do(outgoing)
			check(t, err)
			defer response.Body.Close()
			lines := bufio.NewScanner(response.Body)
			next := func() string {
				t.Helper()
				if !lines.Scan() {
					t.Fatalf("the stream ended: %v", lines.Err())
				}
				return lines.Text()
			}
			expect := func(part string) {
				t.Helper()
				if line := next(); !strings.Contains(line, part) {
					t.Fatalf("%s is not in %s", part, line)
				}
			}
			expect(`"created":true`)
			ask(t, server, post("/v3/kv/put", `{"key":"dw==","value":"MQ=="}`))
			expect(`"value":"MQ=="`)
			_, err = io.WriteString(writer, `{"progress_request":{}}{"create_request":{"key":"eA==","watch_id":"5"}}`)
			check(t, err)
			// In either order: nobody promises one.
			both := next() + next()
			if !strings.Contains(both, `"watch_id":"-1"`) || !strings.Contains(both, `"watch_id":"5","created":true`) {
				t.Fatal(both)
			}
			ask(t, server, post("/v3/kv/put", `{"key":"eA==","value":"Mg=="}`))
			expect(`"watch_id":"5"`)
			_, err = io.WriteString(writer, `{"cancel_request":{"watch_id":"5"}}`)
			check(t, err)
			expect(`"watch_id":"5","canceled":true`)
			// The end of the request is not the end of the watch.
			check(t, writer.Close())
			ask(t, server, post("/v3/kv/put", `{"key":"dw==","value":"Mw=="}`))
			expect(`"value":"Mw=="`)
		})
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		server := startOnTLS(t, program)
		value := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("0123456789abcdef"), 1<<14))
		for number := range 20 {
			key := base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(number)))
			ask(t, server, post("/v3/kv/put", fmt.Sprintf(`{"key":"%s","value":"%s"}`, key, value)))
		}
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			response := send(t, server, proto, open("/v3/maintenance/snapshot", "{}", 0))
			var image []byte
			decoder := json.NewDecoder(response.Body)
			for {
				var line struct {
					Result struct {
						Blob           []byte
						RemainingBytes string `json:"remaining_bytes"`
					}
					Error any
				}
				err := decoder.Decode(&line)
				if err == io.EOF {
					break
				}
				check(t, err)
				if line.Error != nil {
					t.Fatalf("%s: %v", program.Name, line.Error)
				}
				image = append(image, line.Result.Blob...)
			}
			check(t, response.Body.Close())
			file, digest := image[:len(image)-sha256.Size], image[len(image)-sha256.Size:]
			if sum := sha256.Sum256(file); !bytes.Equal(sum[:], digest) || len(file)%4096 != 0 || len(file) < 5<<20 {
				t.Errorf("%s over %s: %d bytes, or a wrong digest", program.Name, proto, len(file))
			}
		}
	}
}

// Who hangs up ends what it began, whether its stream has begun, or is full.
func TestWhoHangsUpIsForgotten(t *testing.T) {
	t.Parallel()
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		server := startOnTLS(t, program)
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			var responses []*http.Response
			for range 20 {
				response := send(t, server, proto, open("/v3/watch", createWatch, 1))
				if _, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				responses = append(responses, response)
			}
			awaitStreams(t, server, 20)
			for _, response := range responses {
				check(t, response.Body.Close())
			}
			awaitStreams(t, server, 0)
		}
	}
}

// A client that reads nothing delays nobody, and has all events when it reads.
func TestWhoReadsNothingLosesNothing(t *testing.T) {
	t.Parallel()
	const putCount = 40
	value := base64.StdEncoding.EncodeToString(make([]byte, 300_000))
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		server := startOnTLS(t, program)
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			slow := send(t, server, proto, open("/v3/watch", createWatch, 0))
			quick := send(t, server, proto, open("/v3/watch", createWatch, 0))
			quickLines := newLines(quick.Body)
			quickLines.next(t)
			for range putCount {
				ask(t, server, post("/v3/kv/put", `{"key":"dw==","value":"`+value+`"}`))
				if events := quickLines.next(t); events != 1 {
					t.Fatalf("%s: %d events", program.Name, events)
				}
			}
			slowLines := newLines(slow.Body)
			for told := -slowLines.next(t); told < putCount; {
				told += slowLines.next(t)
			}
			check(t, slow.Body.Close())
			check(t, quick.Body.Close())
		}
	}
}

// The plainest client there is: HTTP/1.0, and one that says nothing more.
func TestOldClients(t *testing.T) {
	t.Parallel()
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		server := startOnTLS(t, program)
		connection, err := net.Dial("tcp", server.Endpoint)
		check(t, err)
		check(t, connection.SetDeadline(time.Now().Add(patience)))
		body := `{"ID":5}{"ID":6}`
		_, err = fmt.Fprintf(connection, "POST /v3/lease/keepalive HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		check(t, err)
		text, err := io.ReadAll(connection)
		check(t, err)
		head, answer, _ := strings.Cut(string(text), "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.0 200 OK\r\n") || strings.Contains(head, "chunked") {
			t.Errorf("%s: %s", program.Name, head)
		}
		if lines := lines(answer); len(lines) != 2 {
			t.Errorf("%s: %s", program.Name, answer)
		}
		check(t, connection.Close())
	}
}

// begin sends a request and takes what is to be compared of its answer.
func begin(t *testing.T, server *harness.Server, proto string, stream streamed) streamAnswer {
	t.Helper()
	response := send(t, server, proto, stream)
	defer response.Body.Close()
	answer := streamAnswer{Status: response.StatusCode, Headers: map[string]string{}}
	answer.Chunked = len(response.TransferEncoding) > 0
	for _, name := range comparedHeaders {
		answer.Headers[name] = response.Header.Get(name)
	}
	reader := bufio.NewReader(response.Body)
	var text strings.Builder
	for count := 0; stream.lines == 0 || count < stream.lines; count++ {
		line, err := reader.ReadString('\n')
		text.WriteString(line)
		if err == io.EOF {
			break
		}
		check(t, err)
	}
	answer.Lines = lines(text.String())
	if !strings.HasPrefix(text.String(), `{"result"`) {
		// Whether an answer without a message had a head depends on which of etcd's listeners the gateway came by.
		delete(answer.Headers, "Grpc-Metadata-Content-Type")
	}
	return answer
}

func send(t *testing.T, server *harness.Server, proto string, stream streamed) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	url := "https://" + server.Endpoint + stream.path
	outgoing, err := http.NewRequestWithContext(ctx, stream.method, url, strings.NewReader(stream.body))
	check(t, err)
	for name, value := range stream.headers {
		outgoing.Header.Set(name, value)
	}
	response, err := clientFor(proto).Do(outgoing)
	if err != nil {
		t.Fatalf("%s %s: %v", stream.method, stream.path, err)
	}
	if response.Proto != proto {
		t.Fatalf("%s instead of %s", response.Proto, proto)
	}
	return response
}

// clientFor makes a client with a connection of its own.
func clientFor(proto string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:  proto == "HTTP/2.0",
		DisableCompression: true,
	}}
}

// startOnTLS starts a server that speaks HTTP/2 as well, which etcd does for JSON over TLS only.
func startOnTLS(t *testing.T, program harness.Program) *harness.Server {
	t.Helper()
	return harness.Start(t, program, harness.Options{TLS: true, Flags: []string{"--auto-tls"}})
}

// awaitStreams waits until so many watch streams are open.
func awaitStreams(t *testing.T, server *harness.Server, count int) {
	t.Helper()
	want := fmt.Sprintf("\netcd_debugging_mvcc_watch_stream_total %d\n", count)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		response, err := http.Get("http://" + server.Endpoint + "/metrics")
		check(t, err)
		page, err := io.ReadAll(response.Body)
		check(t, err)
		check(t, response.Body.Close())
		if strings.Contains(string(page), want) {
			return
		}
	}
	t.Fatalf("%s: never %d streams", server.Program.Name, count)
}

// eventLines are the messages of a watch.
type eventLines struct{ decoder *json.Decoder }

func newLines(body io.Reader) eventLines { return eventLines{json.NewDecoder(body)} }

// next takes a message and returns how many events it has.
func (l eventLines) next(t *testing.T) int {
	t.Helper()
	var line struct {
		Result struct{ Events []any }
	}
	check(t, l.decoder.Decode(&line))
	return len(line.Result.Events)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A browser's way: each message some of the request, each line of the answer a message.
func TestWebsocket(t *testing.T) {
	t.Parallel()
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		server := startOnTLS(t, program)
		dial := func(path string) *websocket.Conn {
			t.Helper()
			dialer := websocket.Dialer{HandshakeTimeout: patience, Subprotocols: []string{"Bearer", "token"}}
			connection, response, err := dialer.Dial("ws://"+server.Endpoint+path, nil)
			check(t, err)
			if protocol := response.Header.Get("Sec-WebSocket-Protocol"); protocol != "Bearer" {
				t.Errorf("%s: protocol %q", program.Name, protocol)
			}
			check(t, connection.SetReadDeadline(time.Now().Add(patience)))
			return connection
		}
		watch := dial("/v3/watch")
		expect := func(part string) {
			t.Helper()
			kind, text, err := watch.ReadMessage()
			check(t, err)
			if kind != websocket.TextMessage || !strings.Contains(string(text), part) {
				t.Fatalf("%s: %s is not in %s", program.Name, part, text)
			}
		}
		check(t, watch.WriteMessage(websocket.TextMessage, []byte(createWatch)))
		expect(`"created":true`)
		ask(t, server, post("/v3/kv/put", `{"key":"dw==","value":"MQ=="}`))
		expect(`"value":"MQ=="`)
		check(t, watch.WriteMessage(websocket.BinaryMessage, []byte(`{"progress_request":{}}`)))
		expect(`"watch_id":"-1"`)
		ponged := make(chan string, 1)
		watch.SetPongHandler(func(text string) error { ponged <- text; return nil })
		check(t, watch.WriteControl(websocket.PingMessage, []byte("there?"), time.Now().Add(patience)))
		value := base64.StdEncoding.EncodeToString(make([]byte, 100_000))
		ask(t, server, post("/v3/kv/put", `{"key":"dw==","value":"`+value+`"}`))
		expect(value)
		if text := <-ponged; text != "there?" {
			t.Errorf("%s: %q", program.Name, text)
		}
		awaitStreams(t, server, 1)
		check(t, watch.WriteControl(websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye"), time.Now().Add(patience)))
		if _, text, err := watch.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("%s: %s, %v", program.Name, text, err)
		}
		check(t, watch.Close())
		awaitStreams(t, server, 0)

		nothing := dial("/v3/nothing")
		_, text, err := nothing.ReadMessage()
		check(t, err)
		if difference := cmp.Diff(lines(`{"code":5,"message":"Not Found"}`), lines(string(text))); difference != "" {
			t.Errorf("%s: %s", program.Name, difference)
		}
		if _, _, err := nothing.ReadMessage(); err == nil {
			t.Errorf("%s: more follows", program.Name)
		}
		check(t, nothing.Close())
	}
}

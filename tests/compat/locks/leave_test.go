package locks

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// Whoever waits for a lock or the lead and leaves has his key deleted, whatever he asked by and however he leaves.
func TestWhoLeavesTheQueue(t *testing.T) {
	t.Parallel()
	programs := map[string]func(testing.TB) harness.Program{
		"etcd": harness.Etcd37, "etcore": harness.EtcoreOrReference,
	}
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.Start(t, program(t), harness.Options{TLS: true, Flags: []string{"--auto-tls"}})
			for _, service := range []string{"lock/lock", "election/campaign"} {
				for way, wait := range waysToLeave {
					t.Run(service+" "+way, func(t *testing.T) { leaves(t, server, service, way, wait) })
				}
			}
		})
	}
}

// waiting is a call that waits in a queue.
type waiting struct {
	t       *testing.T
	server  *harness.Server
	service string
	name    string
}

// waysToLeave begin a call that waits, and return how it ends.
var waysToLeave = map[string]func(waiting) (leave func()){
	"HTTP/1.1 closed":      func(w waiting) func() { return closing(w.t, w.dial(), w.byHTTP1) },
	"HTTP/1.1 by TLS":      func(w waiting) func() { return closing(w.t, w.dialTLS(), w.byHTTP1) },
	"HTTP/1.1 reset":       waiting.reset,
	"HTTP/1.1 half-closed": waiting.halfClose,
	"HTTP/2 closed":        func(w waiting) func() { return w.byHTTP2(true) },
	"HTTP/2 cancelled":     func(w waiting) func() { return w.byHTTP2(false) },
	"gRPC closed":          func(w waiting) func() { return w.byGRPC(true) },
	"gRPC cancelled":       func(w waiting) func() { return w.byGRPC(false) },
}

func leaves(t *testing.T, server *harness.Server, service, way string, wait func(waiting) func()) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	connection := server.Connection(t)
	s := &stage{
		t: t, ctx: ctx, kv: pb.NewKVClient(connection), lease: pb.NewLeaseClient(connection),
		lock: lpb.NewLockClient(connection), election: epb.NewElectionClient(connection),
	}
	name := strings.ReplaceAll(service+" "+way, "/", "-")
	s.grant(1, 2)
	defer s.revoke(1)
	defer s.revoke(2)
	s.tryLock("first", name, 1)
	s.awaitKeys(name, name+"/1")
	leave := wait(waiting{t: t, server: server, service: service, name: name})
	s.awaitKeys(name, name+"/1", name+"/2")
	leave()
	s.awaitKeys(name, name+"/1")
}

func (w waiting) body() string {
	return fmt.Sprintf(`{"name":%q,"lease":2}`, base64.StdEncoding.EncodeToString([]byte(w.name)))
}

func (w waiting) byHTTP1(connection net.Conn) {
	w.t.Helper()
	_, err := fmt.Fprintf(connection, "POST /v3/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
		w.service, len(w.body()), w.body())
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w waiting) dial() net.Conn {
	w.t.Helper()
	connection, err := net.Dial("tcp", w.server.Endpoint)
	if err != nil {
		w.t.Fatal(err)
	}
	return connection
}

func (w waiting) dialTLS() net.Conn {
	w.t.Helper()
	connection, err := tls.Dial("tcp", w.server.Endpoint, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return connection
}

func closing(t *testing.T, connection net.Conn, ask func(net.Conn)) func() {
	t.Helper()
	ask(connection)
	return func() { _ = connection.Close() }
}

func (w waiting) reset() func() {
	connection := w.dial()
	w.byHTTP1(connection)
	return func() {
		_ = connection.(*net.TCPConn).SetLinger(0)
		_ = connection.Close()
	}
}

// Who half-closes is told that his call has ended.
func (w waiting) halfClose() func() {
	connection := w.dial()
	w.byHTTP1(connection)
	return func() {
		defer connection.Close()
		_ = connection.(*net.TCPConn).CloseWrite()
		_ = connection.SetReadDeadline(time.Now().Add(patience))
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		text := strings.ReplaceAll(string(body), " ", "")
		if err != nil || response.StatusCode != 499 || text != `{"code":1,"message":"contextcanceled"}` {
			w.t.Errorf("%v, %d: %s", err, response.StatusCode, body)
		}
	}
}

func (w waiting) byHTTP2(closes bool) func() {
	w.t.Helper()
	connection := make(chan net.Conn, 1)
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			made, err := dialer.DialContext(ctx, network, address)
			if err == nil {
				connection <- made
			}
			return made, err
		},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, "POST", "https://"+w.server.Endpoint+"/v3/"+w.service, strings.NewReader(w.body()))
	if err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			err = fmt.Errorf("%s: %s", response.Proto, response.Status)
		}
		ended <- err
	}()
	return func() {
		if closes {
			_ = (<-connection).Close()
		}
		cancel()
		if err := <-ended; strings.HasPrefix(err.Error(), "HTTP") {
			w.t.Errorf("it was answered: %v", err)
		}
		client.CloseIdleConnections()
	}
}

func (w waiting) byGRPC(closes bool) func() {
	w.t.Helper()
	connection, err := w.server.Dial()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		var err error
		if w.service == "lock/lock" {
			_, err = lpb.NewLockClient(connection).Lock(ctx, &lpb.LockRequest{Name: []byte(w.name), Lease: 2})
		} else {
			_, err = epb.NewElectionClient(connection).Campaign(ctx, &epb.CampaignRequest{Name: []byte(w.name), Lease: 2})
		}
		ended <- err
	}()
	return func() {
		if closes {
			_ = connection.Close()
		}
		cancel()
		if err := <-ended; err == nil {
			w.t.Error("it was answered")
		}
		_ = connection.Close()
	}
}

package routes

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
)

// uncleanPaths lead elsewhere, or look as if they did.
var uncleanPaths = []string{
	"//", "//health", "/./health", "/../health", "/health/", "/health//", "/health/.", "/health/..", "//health?x=1&y=<",
	"/v3", "/v3?a", "/%763", "/v3/", "/v3//", "/v3/.", "/v3/..", "/v3/../health", "/v3/./kv/range", "//v3/kv/range",
	"/v3/kv//range", "/v3/kv/range/", "/v3/kv/range//", "/v3/kv/../lease/leases", "/v3/kv%2frange", "/v3/%6bv/range",
	"/v3%2fkv/range", "/%763/kv/range", "/v3/%2e%2e/health", "/v3beta", "/v3beta/", "/v3beta//kv/range",
	"/v3beta/kv/range/", "/v3beta%2Fkv/range", "/v3/kv/range:x", "/%68ealth", "/%2fhealth", "/health%2f",
	"/livez//", "/livez/", "/readyz//data_corruption", "/version/../version", "/a%20b//c", "/%C3%A9//x", "/a'b//x",
	"/a&b//", "/a;b//", "/a+b//c?d=e+f", "///evil.example", "//evil.example/..", "/config//local",
}

// uncleanPeerPaths are such paths of a peer listener.
var uncleanPeerPaths = []string{
	"//", "//members", "/members/", "//version", "/version/..", "//raft", "/raft/", "/raft/stream", "/raft/stream/..",
	"//raft/probing", "/members/promote", "//downgrade/enabled", "/downgrade/enabled//", "/v3beta//x", "/v3",
}

// A Go server sends clients from an unclean path to the clean one.
func TestUncleanPaths(t *testing.T) {
	t.Parallel()
	reference, subject := startBoth(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
		for _, path := range uncleanPaths {
			for protocol, client := range clients() {
				compareRoute(t, protocol, client, reference, subject, route{method: method, path: path})
			}
		}
		for _, path := range uncleanPeerPaths {
			compareRoute(t, "HTTP/1.1", clients()["HTTP/1.1"], reference, subject, route{method: method, path: path, peer: true})
		}
	}
}

func TestUncleanPathsWithoutAGateway(t *testing.T) {
	t.Parallel()
	options := harness.Options{Flags: []string{"--enable-grpc-gateway=false"}}
	reference := harness.Start(t, harness.Etcd37(t), options)
	subject := harness.Start(t, harness.EtcoreOrReference(t), options)
	for _, path := range []string{"/v3", "/v3/", "//v3", "/v3beta", "/v3beta//x", "/v3//kv/range"} {
		compareRoute(t, "HTTP/1.1", clients()["HTTP/1.1"], reference, subject, route{method: "GET", path: path})
	}
}

// The reference speaks HTTP/2 by TLS.
func TestUncleanPathsByTLS(t *testing.T) {
	t.Parallel()
	options := harness.Options{OnlyTLS: true, Flags: []string{"--auto-tls"}}
	reference := harness.Start(t, harness.Etcd37(t), options)
	subject := harness.Start(t, harness.EtcoreOrReference(t), options)
	for _, http2 := range []bool{false, true} {
		client := &http.Client{
			Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		for _, method := range []string{"GET", "POST"} {
			for _, path := range uncleanPaths {
				asked := route{method: method, path: path, secure: true}
				wanted, got := ask(t, client, reference, asked), ask(t, client, subject, asked)
				if difference := cmp.Diff(wanted, got); difference != "" {
					t.Errorf("HTTP/2 %t: %s %s (-reference +subject):\n%s", http2, method, path, difference)
				}
			}
		}
		client.CloseIdleConnections()
	}
}

// What a client of Go would not send.
func TestOddTargets(t *testing.T) {
	t.Parallel()
	reference, subject := startBoth(t)
	for _, method := range []string{"GET", "POST", "OPTIONS", "CONNECT", "TRACE", "get"} {
		for _, target := range []string{
			"*", "/%", "/%zz", "/%4", "/v3/%zz", "//health", "/v3", "http://other//health", "http://other/health", "/a b",
		} {
			wanted, got := askRaw(t, reference, method, target), askRaw(t, subject, method, target)
			if difference := cmp.Diff(wanted, got); difference != "" {
				t.Errorf("%s %s (-reference +subject):\n%s", method, target, difference)
			}
		}
	}
}

// askRaw sends a request as it is written here; the answer is empty where the server has none.
func askRaw(t *testing.T, server *harness.Server, method, target string) answer {
	t.Helper()
	connection, err := net.Dial("tcp", server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(connection, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", method, target); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		if strings.Contains(err.Error(), "timeout") {
			t.Fatal(err)
		}
		return answer{}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(response, body)
}

package tls

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	plaintext "google.golang.org/grpc/credentials/insecure"
)

// Socket files are served in plain text and by TLS, beside a port, and again when one was left by a process that was killed.
func TestSocketFiles(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	ca.Issue("server", 2, time.Hour)
	var plain, secure string
	both(t, func() harness.Options {
		folder := t.TempDir()
		plain, secure = filepath.Join(folder, "plain"), filepath.Join(folder, "secure")
		return harness.Options{
			TLS:     true,
			Sockets: []string{"unix://" + plain, "unixs://" + secure},
			Flags:   []string{"--cert-file=" + ca.Path("server.pem"), "--key-file=" + ca.Path("server-key.pem")},
		}
	}, func(t *testing.T, server *harness.Server) {
		config := ca.Client(ca, "")
		config.ServerName = "localhost"
		for range 2 {
			useSocket(t, plain, "http", nil)
			useSocket(t, secure, "https", config)
			output, err := exec.Command(harness.Tool(t, "bin/etcdctl"), "--endpoints=unix://"+plain, "get", "k").CombinedOutput()
			if string(output) != "k\nv\n" {
				t.Errorf("etcdctl: %v: %s", err, output)
			}
			server.Kill()
			server.Restart(t)
		}
	})
}

// useSocket puts by gRPC and asks for health by HTTP.
func useSocket(t *testing.T, path, scheme string, config *tls.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	trust := plaintext.NewCredentials()
	if config != nil {
		trust = credentials.NewTLS(config)
	}
	connection, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(trust),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	check(t, err)
	defer connection.Close()
	_, err = pb.NewKVClient(connection).Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")})
	check(t, err)

	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}, Timeout: 10 * time.Second}
	response, err := client.Get(scheme + "://localhost/health")
	check(t, err)
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("/health over %s: %s %v", path, response.Status, err)
	}
}

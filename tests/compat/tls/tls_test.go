package tls

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"
)

// both runs a test against the real etcd and against etcore.
func both(t *testing.T, options func() harness.Options, test func(t *testing.T, server *harness.Server)) {
	t.Helper()
	programs := map[string]func(testing.TB) harness.Program{
		"etcd": harness.Etcd37, "etcore": harness.EtcoreOrReference,
	}
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			test(t, harness.Start(t, program(t), options()))
		})
	}
}

// get asks for /version on a connection of its own.
func get(server *harness.Server, config *tls.Config, http2 bool) (string, error) {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + server.Endpoint + "/version")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.Proto, err
}

func TestWhoIsAccepted(t *testing.T) {
	t.Parallel()
	ca, other := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "other")
	ca.Issue("server", 2, time.Hour)
	ca.Issue("good", 3, time.Hour)
	ca.Issue("expired", 4, -time.Hour)
	ca.Issue("revoked", 5, time.Hour)
	other.Issue("stranger", 3, time.Hour)
	list := ca.Revoke(5)
	both(t, func() harness.Options { return ca.Mutual("--client-crl-file=" + list) },
		func(t *testing.T, server *harness.Server) {
			for _, http2 := range []bool{false, true} {
				if _, err := get(server, ca.Client(ca, "good"), http2); err != nil {
					t.Errorf("a good certificate: %v", err)
				}
				refused := map[string]*tls.Config{
					"no":         ca.Client(ca, ""),
					"an expired": ca.Client(ca, "expired"),
					"a revoked":  ca.Client(ca, "revoked"),
					"a foreign":  ca.Client(other, "stranger"),
				}
				for name, config := range refused {
					if proto, err := get(server, config, http2); err == nil {
						t.Errorf("%s certificate is accepted (%s)", name, proto)
					}
				}
			}
			if !strings.Contains(server.LogTail(), "rejected connection on client endpoint") {
				t.Error("the log does not say that anybody was refused")
			}
		})
}

// Which of the names in a certificate are a host's is for Go to say.
func TestAllowedHostnames(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	ca.Issue("server", 2, time.Hour)
	ca.IssueFor("exact", 3, time.Hour, "foo.example")
	ca.IssueFor("star", 4, time.Hour, "*.example")
	ca.IssueFor("deeper", 5, time.Hour, "*.foo.example")
	ca.IssueFor("other", 6, time.Hour, "foo.elsewhere")
	for _, hosts := range []string{"foo.example", "Foo.Example.", "*.example", "none,a.foo.example", "127.0.0.1", "10.0.0.1"} {
		seen := map[string]map[string]bool{}
		both(t, func() harness.Options { return ca.Mutual("--client-cert-allowed-hostname=" + hosts) },
			func(t *testing.T, server *harness.Server) {
				accepted := map[string]bool{}
				for _, name := range []string{"exact", "star", "deeper", "other"} {
					_, err := get(server, ca.Client(ca, name), true)
					accepted[name] = err == nil
				}
				seen[server.Program.Name] = accepted
			})
		for program, accepted := range seen {
			if wanted := seen["etcd37"]; !maps.Equal(accepted, wanted) {
				t.Errorf("%s: %s accepts %v, etcd %v", hosts, program, accepted, wanted)
			}
		}
	}
}

// The suite is one that HTTP/2 demands; etcd refuses to start without.
func TestVersionsAndSuites(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	ca.Issue("server", 2, time.Hour)
	flags := []string{
		"--cert-file=" + ca.Path("server.pem"), "--key-file=" + ca.Path("server-key.pem"),
		"--tls-max-version=TLS1.2", "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
	}
	both(t, func() harness.Options { return harness.Options{TLS: true, Flags: flags} },
		func(t *testing.T, server *harness.Server) {
			config := ca.Client(ca, "")
			connection, err := tls.Dial("tcp", server.Endpoint, config)
			check(t, err)
			state := connection.ConnectionState()
			_ = connection.Close()
			if state.Version != tls.VersionTLS12 || state.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
				t.Errorf("version %x, suite %x", state.Version, state.CipherSuite)
			}
			config.MinVersion = tls.VersionTLS13
			if _, err := tls.Dial("tcp", server.Endpoint, config); err == nil {
				t.Error("TLS 1.3 is accepted")
			}
			// Plain text on the same port.
			response, err := http.Get("http://" + server.Endpoint + "/version")
			check(t, err)
			_ = response.Body.Close()
		})
}

func TestNewFilesAreUsedWithoutARestart(t *testing.T) {
	t.Parallel()
	ca, next := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "next")
	both(t, func() harness.Options {
		ca.Issue("server", 2, time.Hour)
		ca.Issue("good", 3, time.Hour)
		return ca.Mutual()
	}, func(t *testing.T, server *harness.Server) {
		_, err := get(server, ca.Client(ca, "good"), true)
		check(t, err)
		next.Issue("server", 7, time.Hour)
		for _, name := range []string{"server.pem", "server-key.pem"} {
			bytes, err := os.ReadFile(next.Path(name))
			check(t, err)
			check(t, os.WriteFile(ca.Path(name), bytes, 0o600))
		}
		if _, err := get(server, ca.Client(ca, "good"), true); err == nil {
			t.Error("the old certificate is still shown")
		}
		_, err = get(server, next.Client(ca, "good"), true)
		check(t, err)
	})
}

func TestEtcdctlOverMutualTLS(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	ca.Issue("server", 2, time.Hour)
	ca.Issue("good", 3, time.Hour)
	etcdctl := harness.Tool(t, "bin/etcdctl")
	both(t, func() harness.Options { return ca.Mutual() }, func(t *testing.T, server *harness.Server) {
		run := func(input string, arguments ...string) string {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			command := exec.CommandContext(ctx, etcdctl, append([]string{
				"--endpoints=https://" + server.Endpoint, "--cacert=" + ca.Path("ca.pem"),
				"--cert=" + ca.Path("good.pem"), "--key=" + ca.Path("good-key.pem"),
			}, arguments...)...)
			command.Stdin = strings.NewReader(input)
			output, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %v: %s", arguments, err, output)
			}
			return string(output)
		}
		// Many records, each way.
		large := strings.Repeat("0123456789abcdef", 80_000)
		run("", "put", "small", "value")
		run(large, "put", "large")
		if got := run("", "get", "small"); got != "small\nvalue\n" {
			t.Errorf("got %q", got)
		}
		if got := run("", "get", "large", "--print-value-only"); strings.TrimSpace(got) != large {
			t.Errorf("the large value has %d bytes", len(got))
		}
		run("", "endpoint", "health")
		run("mod(\"small\") > \"0\"\n\ndel small\n\n\n", "txn")
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package harness

import (
	"crypto/tls"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Access is a way to a server: in plain text, or over mutual TLS.
type Access struct {
	*Server
	URL       string
	TLS       *tls.Config // nil: plain
	authority *Authority
}

// EachAccess runs a test in plain text and over mutual TLS against the real etcd, which proves
// that what the test expects is etcd's behaviour, and against etcore; each time on a server of
// its own, all at the same time.
func EachAccess(t *testing.T, test func(t *testing.T, access *Access)) {
	t.Helper()
	for name, open := range accesses(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// EveryAccess opens all of these at once, by name, for a test that mostly waits: only so many
// tests run at the same time as there are processors.
func EveryAccess(t *testing.T) map[string]*Access {
	t.Helper()
	opened := map[string]*Access{}
	for name, open := range accesses(t) {
		opened[name] = open(t)
	}
	return opened
}

func accesses(t *testing.T) map[string]func(*testing.T) *Access {
	t.Helper()
	all := map[string]func(*testing.T) *Access{}
	for _, program := range []Program{Etcd37(t), EtcoreOrReference(t)} {
		all[program.Name+" in plain text"] = func(t *testing.T) *Access { return openPlain(t, program) }
		all[program.Name+" over mutual TLS"] = func(t *testing.T) *Access { return openMutual(t, program) }
	}
	return all
}

func openPlain(t *testing.T, program Program) *Access {
	t.Helper()
	server := Start(t, program, Options{Flags: []string{"--unsafe-no-fsync"}})
	return &Access{Server: server, URL: "http://" + server.Endpoint}
}

func openMutual(t *testing.T, program Program) *Access {
	t.Helper()
	authority := NewAuthority(t, "ca")
	authority.Issue("server", 2, time.Hour)
	authority.Issue("client", 3, time.Hour)
	server := Start(t, program, authority.Mutual("--unsafe-no-fsync"))
	return &Access{
		Server: server, URL: "https://" + server.Endpoint,
		TLS: authority.Client(authority, "client"), authority: authority,
	}
}

// Client is a Go client that ends with the test.
func (a *Access) Client(t testing.TB, options ...grpc.DialOption) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{a.URL}, TLS: a.TLS, DialTimeout: 10 * time.Second, DialOptions: options,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Files are the paths of authority, certificate and key that a program has to show; empty in plain text.
func (a *Access) Files() (authority, certificate, key string) {
	if a.authority == nil {
		return "", "", ""
	}
	return a.authority.Path("ca.pem"), a.authority.Path("client.pem"), a.authority.Path("client-key.pem")
}

// Etcdctl are the flags with which etcdctl reaches the server.
func (a *Access) Etcdctl() []string {
	flags := []string{"--endpoints=" + a.URL}
	if authority, certificate, key := a.Files(); authority != "" {
		flags = append(flags, "--cacert="+authority, "--cert="+certificate, "--key="+key)
	}
	return flags
}

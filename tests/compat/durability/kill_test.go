package durability

import (
	"os/exec"
	"testing"

	"etcore/tests/compat/harness"
)

// TestEtcdctlSurvivesKill is the first thing that must work: the real etcdctl
// puts and gets, the server is killed, gets work again, and the real etcd
// starts on a copy of the directory.
func TestEtcdctlSurvivesKill(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	etcdctl(t, server, "put", "greeting", "hello")
	etcdctl(t, server, "put", "greeting", "hello again")
	etcdctl(t, server, "put", "other", "value")
	const wanted = "greeting\nhello again\nother\nvalue\n"
	requireGet(t, server, wanted)

	server.Kill()
	server.Restart(t)
	requireGet(t, server, wanted)
	requireOutput(t, etcdctl(t, server, "get", "greeting", "--rev=2", "--print-value-only"), "hello\n")

	server.Kill()
	reader := harness.Start(t, harness.Etcd37(t), harness.Options{DataDir: harness.CopyDataDir(t, server.DataDir)})
	requireGet(t, reader, wanted)
	requireOutput(t, etcdctl(t, reader, "get", "greeting", "--rev=2", "--print-value-only"), "hello\n")
}

func requireGet(t *testing.T, server *harness.Server, wanted string) {
	t.Helper()
	requireOutput(t, etcdctl(t, server, "get", "", "--prefix"), wanted)
}

func requireOutput(t *testing.T, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Fatalf("got %q, wanted %q", got, wanted)
	}
}

// etcdctl runs the real etcdctl, which must succeed, and returns its stdout.
func etcdctl(t *testing.T, server *harness.Server, words ...string) string {
	t.Helper()
	command := exec.Command(harness.Tool(t, "bin/etcdctl"), append([]string{"--endpoints", server.Endpoint}, words...)...)
	command.Env = []string{}
	output, err := command.Output()
	if err != nil {
		t.Fatalf("etcdctl %q: %v", words, err)
	}
	return string(output)
}

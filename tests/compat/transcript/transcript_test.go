package transcript

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
)

//go:embed testdata/commands.txt
var script string

func TestEtcdctlTranscripts(t *testing.T) {
	for name, path := range map[string]string{"3.7": "bin/etcdctl", "3.6": "etcd36/bin/etcdctl"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareTranscripts(t, harness.Tool(t, path))
		})
	}
}

func compareTranscripts(t *testing.T, etcdctl string) {
	commands, err := parseScript(script)
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"--unsafe-no-fsync"}
	begin := func(program harness.Program) *session {
		server := harness.Start(t, program, harness.Options{Flags: flags})
		awaitStorageVersion(t, server)
		return &session{etcdctl: etcdctl, endpoint: server.Endpoint}
	}
	reference, subject := begin(harness.Etcd37(t)), begin(harness.EtcoreOrReference(t))
	const differencesMax = 20 // further ones follow from the first
	differences := 0
	for _, command := range commands {
		wanted, got := runBoth(t, reference, subject, command)
		if wanted == got {
			continue
		}
		t.Errorf("etcdctl %s\ninput: %q\ndifference (-reference +subject):\n%s",
			command.line, command.input, cmp.Diff(lines(wanted), lines(got)))
		if differences++; differences == differencesMax {
			t.Fatal("too many differences")
		}
	}
	t.Logf("%d commands, %d differences", len(commands), differences)
}

// awaitStorageVersion waits until the store is of the cluster's version: with etcd it follows after the start, which
// `endpoint status` shows.
func awaitStorageVersion(t *testing.T, server *harness.Server) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		response, err := http.Get("http://" + server.Endpoint + "/version")
		if err != nil {
			t.Fatal(err)
		}
		var versions struct{ Etcdcluster, Storage string }
		err = json.NewDecoder(response.Body).Decode(&versions)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if versions.Storage == versions.Etcdcluster {
			return
		}
	}
	t.Fatalf("the store of %s stays behind the cluster's version", server.Program.Name)
}

func lines(r result) []string { return strings.Split(r.String(), "\n") }

// runBoth runs one command on both servers at the same time.
func runBoth(t *testing.T, reference, subject *session, command command) (wanted, got result) {
	t.Helper()
	failed := make(chan error)
	go func() {
		var err error
		got, err = subject.run(command)
		failed <- err
	}()
	wanted, err := reference.run(command)
	if subjectErr := <-failed; subjectErr != nil {
		t.Fatal(subjectErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return wanted, got
}

func TestMaskKeepsWhatMustBeEqual(t *testing.T) {
	s := &session{endpoint: "127.0.0.1:12345", leases: leaseIDs{0x1234567890abcdef}}
	status := command{words: []string{"endpoint", "status"}}
	masked := s.maskText(status, "127.0.0.1:12345, 8e9e, 3.7.1, 3.7.0, 25 kB, 20 kB, 17%, 2.1 GB, true, false, 2, 4, 4, , , false\n")
	if wanted := "ENDPOINT, 8e9e, 3.7.1, 3.7.0,  N ,  N ,  N , 2.1 GB, true, false,  N ,  N ,  N , , , false\n"; masked != wanted {
		t.Errorf("status line became %q", masked)
	}
	get := command{words: []string{"get"}}
	if masked := s.maskText(get, `{"raft_term":3,"revision":7,"lease":1311768467294899695}`); masked != `{"raft_term":N,"revision":7,"lease":LEASE1}` {
		t.Errorf("header became %q", masked)
	}
	if masked := s.maskText(get, `{"raft_term":0}`); masked != `{"raft_term":0}` {
		t.Error("a term of 0 must show")
	}
}

package durability

import (
	"testing"

	"etcore/tests/compat/differential"
	"etcore/tests/compat/harness"

	"google.golang.org/grpc/codes"
)

const (
	workloadSeed  = 20_26
	workloadCalls = 1_500
)

// startWithWorkload starts a server, applies the workload and reads it back.
func startWithWorkload(t *testing.T, program harness.Program, flags []string) (*harness.Server, contents) {
	t.Helper()
	server := harness.Start(t, program, harness.Options{Flags: flags})
	connection := server.Connection(t)
	play(t, differential.NewPlayer(connection), differential.Workload(workloadSeed, workloadCalls))
	wanted := read(t, connection)
	wanted.requireSubstance(t)
	return server, wanted
}

// play applies a workload; refusals are part of it, lost connections are not.
func play(t *testing.T, player *differential.Player, calls []differential.Call) {
	t.Helper()
	for i, outcome := range player.Play(calls) {
		switch outcome.Status.Code() {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
			t.Fatalf("%s: %s", calls[i], outcome)
		}
	}
}

func TestEtcdReadsDirectory(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *harness.Server){
		"after a kill": func(_ *testing.T, server *harness.Server) { server.Kill() },
		"after a stop": func(t *testing.T, server *harness.Server) { server.Stop(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, wanted := startWithWorkload(t, harness.EtcoreOrReference(t), nil)
			end(t, server)
			server.Restart(t)
			requireContents(t, server.Connection(t), wanted)
			end(t, server)

			reader := harness.Start(t, harness.Etcd37(t), harness.Options{DataDir: harness.CopyDataDir(t, server.DataDir)})
			requireContents(t, reader.Connection(t), wanted)
			requireNextWrite(t, reader.Connection(t), wanted)
		})
	}
}

func TestEtcoreReplaysWalOfEtcd(t *testing.T) {
	for name, program := range map[string]func(testing.TB) harness.Program{
		"3.6": harness.Etcd36,
		"3.7": harness.Etcd37,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writer, wanted := startWithWorkload(t, program(t), nil)
			writer.Kill()
			walOnly := harness.CopyWalOnly(t, writer.DataDir)

			server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{DataDir: walOnly})
			requireContents(t, server.Connection(t), wanted)
			requireNextWrite(t, server.Connection(t), wanted)
			server.Kill()
			server.Restart(t)
			// And back: entries of both programs follow each other in one log.
			longer := read(t, server.Connection(t))
			server.Kill()
			reader := harness.Start(t, harness.Etcd37(t), harness.Options{DataDir: harness.CopyDataDir(t, server.DataDir)})
			requireContents(t, reader.Connection(t), longer)
		})
	}
}

package locks

import (
	"context"
	"testing"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	validate = pb.DowngradeRequest_VALIDATE
	enable   = pb.DowngradeRequest_ENABLE
	cancel   = pb.DowngradeRequest_CANCEL
)

func (s *stage) downgrade(action pb.DowngradeRequest_DowngradeAction, version string) {
	answer, err := s.upkeep.Downgrade(s.ctx, &pb.DowngradeRequest{Action: action, Version: version})
	if !s.failed(action.String()+" "+version, err) {
		s.note("%s %s: the cluster is of %s at %d", action, version, answer.Version, answer.Header.Revision)
	}
}

// awaitVersion asks until the database is of this version, and so the cluster.
func (s *stage) awaitVersion(version string) *pb.StatusResponse {
	s.t.Helper()
	for {
		status, err := s.upkeep.Status(s.ctx, &pb.StatusRequest{})
		if err != nil {
			s.t.Fatalf("waiting for %s: %v", version, err)
		}
		if status.StorageVersion == version {
			s.note("%s, preparing for %s", version, status.DowngradeInfo)
			return status
		}
	}
}

func TestDowngrade(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *stage) {
		for _, version := range []string{
			"3.6", "3.6.5", "3.6.5-rc.1", "03.6", "3.5", "3.7", "3.8", "4.6", "", "x", "3", "v3.6", "3.6.1.2", "3.6-rc.1",
		} {
			s.downgrade(validate, version)
		}
		s.downgrade(7, "3.6")
		s.downgrade(cancel, "")
		s.downgrade(enable, "3.5")
		s.downgrade(enable, "z")
		s.downgrade(enable, "3.6.4")
		s.awaitVersion("3.6.0")
		s.downgrade(enable, "3.6")
		s.downgrade(enable, "3.5")
		s.downgrade(validate, "3.5")
		s.downgrade(cancel, "what stands here does not count")
		s.awaitVersion("3.7.0")
		s.downgrade(cancel, "")
		s.downgrade(validate, "3.6")
	})
}

// After a downgrade etcd 3.6 takes over the directory, and without one it refuses to.
func TestDowngradedDirectory(t *testing.T) {
	t.Parallel()
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		server := harness.Start(t, program, harness.Options{})
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		connection := server.Connection(t)
		s := &stage{
			t: t, ctx: ctx,
			kv: pb.NewKVClient(connection), upkeep: pb.NewMaintenanceClient(connection),
		}
		if _, err := s.kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		s.downgrade(enable, "3.6")
		s.awaitVersion("3.6.0")
		server.Stop(t)

		former := harness.Start(t, harness.Etcd36(t), harness.Options{DataDir: server.DataDir})
		answer, err := pb.NewKVClient(former.Connection(t)).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		if err != nil || len(answer.Kvs) != 1 || string(answer.Kvs[0].Value) != "v" {
			t.Errorf("etcd 3.6 on the directory of %s: %v, %v", program.Name, answer, err)
		}
		former.Stop(t)
	}
}

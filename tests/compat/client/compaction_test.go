package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// With a retention of a second old revisions go by themselves, and the newest stay.
func TestOldRevisionsGoByThemselves(t *testing.T) {
	t.Parallel()
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		t.Run(program.Name, func(t *testing.T) {
			t.Parallel()
			server := harness.Start(t, program, harness.Options{Flags: []string{"--auto-compaction-retention=1s"}})
			client := connect(t, server, clientv3.Config{})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			first, err := client.Put(ctx, "k", "first")
			for err == nil {
				var last *clientv3.PutResponse
				if last, err = client.Put(ctx, "k", "next"); err == nil {
					_, err = client.Get(ctx, "k", clientv3.WithRev(last.Header.Revision))
				}
				if err == nil {
					_, err = client.Get(ctx, "k", clientv3.WithRev(first.Header.Revision))
				}
				time.Sleep(50 * time.Millisecond)
			}
			if !errors.Is(err, rpctypes.ErrCompacted) {
				t.Fatal(err)
			}
		})
	}
}

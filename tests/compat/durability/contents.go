package durability

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"etcore/tests/compat/differential"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// contents is what a store holds, as far as clients can see it.
type contents struct {
	Revision        int64
	CompactRevision int64
	Reads           []*pb.RangeResponse  // of all keys, at revisions from new to old
	Hashes          []*pb.HashKVResponse // at the same revisions
	Leases          []*pb.LeaseTimeToLiveResponse
	Alarms          []*pb.AlarmMember
	Members         []*pb.Member
}

// olderRevisions are the distances from the newest revision that are looked at.
var olderRevisions = []int64{0, 1, 2, 5, 10, 20, 30}

// read takes the contents of a server.
func read(t *testing.T, connection *grpc.ClientConn) contents {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	hash, err := pb.NewMaintenanceClient(connection).HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		t.Fatal(err)
	}
	all := contents{Revision: hash.Header.Revision, CompactRevision: hash.CompactRevision}
	for _, distance := range olderRevisions {
		// The hash of the compacted revision itself is remembered or not; what
		// is above it can only be computed.
		if revision := all.Revision - distance; revision > max(all.CompactRevision, 0) {
			all.readRevision(ctx, t, connection, revision)
		}
	}
	for _, id := range differential.WorkloadLeases() {
		lease, err := pb.NewLeaseClient(connection).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		if err != nil {
			t.Fatal(err)
		}
		lease.Header = nil
		if lease.TTL > 0 {
			lease.TTL = lease.GrantedTTL // a restart begins it anew
		}
		slices.SortFunc(lease.Keys, bytes.Compare)
		all.Leases = append(all.Leases, lease)
	}
	alarms, err := pb.NewMaintenanceClient(connection).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		t.Fatal(err)
	}
	members, err := pb.NewClusterClient(connection).MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		t.Fatal(err)
	}
	all.Alarms, all.Members = alarms.Alarms, members.Members
	return all
}

func (c *contents) readRevision(ctx context.Context, t *testing.T, connection *grpc.ClientConn, revision int64) {
	t.Helper()
	pairs, err := pb.NewKVClient(connection).Range(ctx,
		&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
	if err != nil {
		t.Fatalf("reading revision %d: %v", revision, err)
	}
	hash, err := pb.NewMaintenanceClient(connection).HashKV(ctx, &pb.HashKVRequest{Revision: revision})
	if err != nil {
		t.Fatalf("hashing revision %d: %v", revision, err)
	}
	pairs.Header, hash.Header = nil, nil
	c.Reads = append(c.Reads, pairs)
	c.Hashes = append(c.Hashes, hash)
}

// requireSubstance fails where a comparison would be of nothing.
func (c *contents) requireSubstance(t *testing.T) {
	t.Helper()
	live := 0
	for _, lease := range c.Leases {
		if lease.TTL > 0 {
			live++
		}
	}
	if len(c.Reads) < 2 || len(c.Reads[0].Kvs) == 0 || live == 0 || c.CompactRevision < 2 {
		t.Fatalf("the workload left %d revisions, compaction at %d, %d leases", len(c.Reads), c.CompactRevision, live)
	}
}

// requireContents compares what a server holds with what it must hold.
func requireContents(t *testing.T, connection *grpc.ClientConn, wanted contents) {
	t.Helper()
	if difference := wanted.difference(read(t, connection)); difference != "" {
		t.Fatal(difference)
	}
}

// difference is empty for equal contents. It names the first part that differs:
// the time that cmp takes for all of large contents knows no bound.
func (c *contents) difference(got contents) string {
	const shownMax = 2000
	if c.Revision != got.Revision || c.CompactRevision != got.CompactRevision {
		return fmt.Sprintf("at revision %d, compacted at %d; wanted %d and %d",
			got.Revision, got.CompactRevision, c.Revision, c.CompactRevision)
	}
	left, right := c.parts(), got.parts()
	if len(left) != len(right) {
		return fmt.Sprintf("%d parts, wanted %d", len(right), len(left))
	}
	for i := range left {
		if !proto.Equal(left[i].message, right[i].message) {
			wanted, got := fmt.Sprint(left[i].message), fmt.Sprint(right[i].message)
			same := 0
			for same < min(len(wanted), len(got)) && wanted[same] == got[same] {
				same++
			}
			same = max(0, same-shownMax/4)
			return fmt.Sprintf("%s, from byte %d of its text:\nwanted %.*s\ngot    %.*s",
				left[i].name, same, shownMax, wanted[same:], shownMax, got[same:])
		}
	}
	return ""
}

type part struct {
	name    string
	message proto.Message
}

func (c *contents) parts() []part {
	var parts []part
	for i := range c.Reads {
		parts = append(parts,
			part{fmt.Sprintf("the range of all keys, the %d. from the newest", i), c.Reads[i]},
			part{fmt.Sprintf("the hash of all keys, the %d. from the newest", i), c.Hashes[i]})
	}
	for _, lease := range c.Leases {
		parts = append(parts, part{"a lease", lease})
	}
	return append(parts,
		part{"the alarms", &pb.AlarmResponse{Alarms: c.Alarms}},
		part{"the members", &pb.MemberListResponse{Members: c.Members}})
}

// requireNextWrite checks that a store goes on where it stood.
func requireNextWrite(t *testing.T, connection *grpc.ClientConn, wanted contents) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	response, err := pb.NewKVClient(connection).Put(ctx, &pb.PutRequest{Key: []byte("next"), Value: []byte("v")})
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Revision; got != wanted.Revision+1 {
		t.Fatalf("the next write got revision %d after %d", got, wanted.Revision)
	}
}

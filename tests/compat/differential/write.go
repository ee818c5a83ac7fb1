package differential

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// Short ways to write scripted calls down.

func put(key, value string) Call {
	return Call{Method: methodPut, Request: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}
}

func putWith(request *pb.PutRequest) Call { return Call{Method: methodPut, Request: request} }

func attach(key string, lease int64) Call {
	return putWith(&pb.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: lease})
}

func get(key string) Call {
	return Call{Method: methodRange, Request: &pb.RangeRequest{Key: []byte(key)}}
}

func getWith(request *pb.RangeRequest) Call { return Call{Method: methodRange, Request: request} }

// everything reads all keys at a revision; 0 is the newest.
func everything(revision int64) Call {
	return getWith(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
}

func del(key string) Call {
	return Call{Method: methodDeleteRange, Request: &pb.DeleteRangeRequest{Key: []byte(key), PrevKv: true}}
}

func delRange(key, end string) Call {
	return Call{Method: methodDeleteRange, Request: &pb.DeleteRangeRequest{
		Key: []byte(key), RangeEnd: []byte(end), PrevKv: true,
	}}
}

func compact(revision int64) Call {
	return Call{Method: methodCompact, Request: &pb.CompactionRequest{Revision: revision, Physical: true}}
}

func hashKV(revision int64) Call {
	return Call{Method: methodHashKV, Request: &pb.HashKVRequest{Revision: revision}}
}

func grant(id, ttl int64) Call {
	return Call{Method: methodLeaseGrant, Request: &pb.LeaseGrantRequest{ID: id, TTL: ttl}}
}

// grantNamed lets the server choose the id, known as symbol from then on.
func grantNamed(symbol, ttl int64) Call {
	return Call{Method: methodLeaseGrant, Request: &pb.LeaseGrantRequest{TTL: ttl}, Names: symbol}
}

func revoke(id int64) Call {
	return Call{Method: methodLeaseRevoke, Request: &pb.LeaseRevokeRequest{ID: id}}
}

func timeToLive(id int64) Call {
	return Call{Method: methodLeaseTTL, Request: &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}}
}

func alarm(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) Call {
	return Call{Method: methodAlarm, Request: &pb.AlarmRequest{Action: action, Alarm: kind}}
}

func memberStatus() Call { return Call{Method: methodStatus, Request: &pb.StatusRequest{}} }

func memberList(linearizable bool) Call {
	return Call{Method: methodMemberList, Request: &pb.MemberListRequest{Linearizable: linearizable}}
}

// storeHash covers all buckets, and snapshotContent shows them.
func storeHash() Call { return Call{Method: methodHash, Request: &pb.HashRequest{}} }

func snapshotContent() Call { return Call{Method: methodSnapshot, Request: &pb.SnapshotRequest{}} }

func txn(compares []*pb.Compare, success, failure []*pb.RequestOp) Call {
	return Call{Method: methodTxn, Request: &pb.TxnRequest{Compare: compares, Success: success, Failure: failure}}
}

func ops(calls ...Call) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for _, call := range calls {
		op := &pb.RequestOp{}
		switch request := call.Request.(type) {
		case *pb.RangeRequest:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: request}
		case *pb.PutRequest:
			op.Request = &pb.RequestOp_RequestPut{RequestPut: request}
		case *pb.DeleteRangeRequest:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: request}
		case *pb.TxnRequest:
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: request}
		}
		ops = append(ops, op)
	}
	return ops
}

func compares(list ...*pb.Compare) []*pb.Compare { return list }

func valueIs(key, value string) *pb.Compare {
	return &pb.Compare{
		Result: pb.Compare_EQUAL, Target: pb.Compare_VALUE, Key: []byte(key),
		TargetUnion: &pb.Compare_Value{Value: []byte(value)},
	}
}

func createdAt(key string, revision int64) *pb.Compare {
	return &pb.Compare{
		Result: pb.Compare_EQUAL, Target: pb.Compare_CREATE, Key: []byte(key),
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

// over widens a compare to an interval.
func over(compare *pb.Compare, end string) *pb.Compare {
	compare.RangeEnd = []byte(end)
	return compare
}

func lock(name string, lease int64) Call {
	return Call{Method: methodLock, Request: &lpb.LockRequest{Name: []byte(name), Lease: lease}}
}

func unlock(key string) Call {
	return Call{Method: methodUnlock, Request: &lpb.UnlockRequest{Key: []byte(key)}}
}

func campaign(name string, lease int64, value string) Call {
	return Call{Method: methodCampaign, Request: &epb.CampaignRequest{Name: []byte(name), Lease: lease, Value: []byte(value)}}
}

// candidate is the key by which a lease takes part in an election.
func candidate(name string, lease int64) *epb.LeaderKey {
	return &epb.LeaderKey{Name: []byte(name), Key: []byte(sessionKey([]byte(name), lease)), Lease: lease, Rev: createdSymbol}
}

func proclaim(leader *epb.LeaderKey, value string) Call {
	return Call{Method: methodProclaim, Request: &epb.ProclaimRequest{Leader: leader, Value: []byte(value)}}
}

func resign(leader *epb.LeaderKey) Call {
	return Call{Method: methodResign, Request: &epb.ResignRequest{Leader: leader}}
}

func leaderOf(name string) Call {
	return Call{Method: methodLeader, Request: &epb.LeaderRequest{Name: []byte(name)}}
}

func observe(name string) Call {
	return Call{Method: methodObserve, Request: &epb.LeaderRequest{Name: []byte(name)}}
}

func leave(number int) Call { return Call{Method: methodLeave, Stream: number} }

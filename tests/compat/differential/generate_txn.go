package differential

import (
	"bytes"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	txnDepthMax  = 3
	compareCount = 4
	opCount      = 4
)

func (g *Generator) txn(depth int) *pb.TxnRequest {
	request := &pb.TxnRequest{}
	for range g.random.IntN(compareCount) {
		request.Compare = append(request.Compare, g.compare())
	}
	readOnly := g.one(5)
	request.Success = g.ops(depth, readOnly)
	request.Failure = g.ops(depth, readOnly)
	if depth == 0 && g.one(150) {
		g.overfill(request)
	}
	return request
}

func (g *Generator) ops(depth int, readOnly bool) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range g.random.IntN(opCount) {
		ops = append(ops, g.op(depth, readOnly))
	}
	return ops
}

func (g *Generator) op(depth int, readOnly bool) *pb.RequestOp {
	switch n := g.random.IntN(100); {
	case n < 1:
		return &pb.RequestOp{}
	case n < 35 || readOnly && n < 90:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.txnRange()}}
	case n < 75:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 88 || depth == txnDepthMax:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}}
	default:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth + 1)}}
	}
}

// txnRange rarely asks for old revisions, since a refused one refuses all ops.
func (g *Generator) txnRange() *pb.RangeRequest {
	request := g.readRange()
	if !g.one(8) {
		request.Revision = 0
	}
	return request
}

// overfill goes to the limit of operations, or just past it.
func (g *Generator) overfill(request *pb.TxnRequest) {
	count := maxTxnOps + g.random.IntN(2)
	for len(request.Success) < count {
		request.Success = append(request.Success, &pb.RequestOp{
			Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), CountOnly: true}},
		})
	}
}

func (g *Generator) compare() *pb.Compare {
	compare := &pb.Compare{
		Result: pb.Compare_CompareResult(g.random.IntN(4)),
		Target: pb.Compare_CompareTarget(g.random.IntN(5)),
		Key:    g.key(),
	}
	if g.one(60) {
		compare.Result = unknownEnumNum
	}
	if g.one(60) {
		compare.Target = unknownEnumNum
	}
	if g.one(4) {
		compare.RangeEnd = g.rangeEnd(compare.Key)
	}
	union := compare.Target
	if g.one(30) { // a member that does not match the target, or none
		union = pb.Compare_CompareTarget(g.random.IntN(7))
	}
	switch union {
	case pb.Compare_VERSION:
		compare.TargetUnion = &pb.Compare_Version{Version: int64(g.random.IntN(4))}
	case pb.Compare_CREATE:
		compare.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.comparedRevision()}
	case pb.Compare_MOD:
		compare.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.comparedRevision()}
	case pb.Compare_VALUE:
		compare.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		compare.TargetUnion = &pb.Compare_Lease{Lease: g.lease()}
	}
	return compare
}

func (g *Generator) comparedRevision() int64 {
	if g.one(3) {
		return 0
	}
	return Now(-int64(g.random.IntN(2 * lateRevisions)))
}

// harmless takes out what makes the reference panic: a put that keeps the value
// or the lease of a key that an open-ended delete of the same transaction took
// away. (Open-ended deletes do not count as overlapping with puts.)
func harmless(txn *pb.TxnRequest) *pb.TxnRequest {
	open := false
	var puts []*pb.PutRequest
	eachMessage(txn.ProtoReflect(), func(message protoreflect.Message) {
		switch request := message.Interface().(type) {
		case *pb.DeleteRangeRequest:
			open = open || bytes.Equal(request.RangeEnd, []byte{0})
		case *pb.PutRequest:
			puts = append(puts, request)
		}
	})
	if open {
		for _, put := range puts {
			put.IgnoreValue, put.IgnoreLease = false, false
		}
	}
	return txn
}

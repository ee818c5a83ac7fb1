package differential

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// stableLen is the length up to which the reference's sort is stable.
const stableLen = 12

// settleTies puts pairs that are equal in the sort target in the order of their keys,
// in results so long that the reference's own order of them is an accident of
// its sorting algorithm.
// Where a limit cuts through such equals, which ones are left is that accident
// too: then only their number and their sort target are compared.
func settleTies(request, response proto.Message) {
	switch request := request.(type) {
	case *pb.RangeRequest:
		if response, ok := response.(*pb.RangeResponse); ok {
			settleRange(request, response)
		}
	case *pb.TxnRequest:
		if response, ok := response.(*pb.TxnResponse); ok {
			settleTxn(request, response)
		}
	}
}

func settleTxn(request *pb.TxnRequest, response *pb.TxnResponse) {
	branch := request.Success
	if !response.Succeeded {
		branch = request.Failure
	}
	for i, op := range branch {
		if i == len(response.Responses) {
			return
		}
		answer := response.Responses[i]
		if inner := op.GetRequestRange(); inner != nil && answer.GetResponseRange() != nil {
			settleRange(inner, answer.GetResponseRange())
		}
		if inner := op.GetRequestTxn(); inner != nil && answer.GetResponseTxn() != nil {
			settleTxn(inner, answer.GetResponseTxn())
		}
	}
}

func settleRange(request *pb.RangeRequest, response *pb.RangeResponse) {
	if response.Count <= stableLen || request.SortTarget == pb.RangeRequest_KEY {
		return
	}
	equals := func(a, b *mvccpb.KeyValue) bool { return compareTarget(request, a, b) == 0 }
	kvs := response.Kvs
	for first := 0; first < len(kvs); {
		limit := first + 1
		for limit < len(kvs) && equals(kvs[first], kvs[limit]) {
			limit++
		}
		group := kvs[first:limit]
		slices.SortFunc(group, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
		if response.More && limit == len(kvs) {
			for i, kv := range group {
				group[i] = targetOnly(request, kv)
			}
		}
		first = limit
	}
}

func compareTarget(request *pb.RangeRequest, a, b *mvccpb.KeyValue) int {
	switch request.SortTarget {
	case pb.RangeRequest_VERSION:
		return cmp.Compare(a.Version, b.Version)
	case pb.RangeRequest_CREATE:
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	case pb.RangeRequest_MOD:
		return cmp.Compare(a.ModRevision, b.ModRevision)
	case pb.RangeRequest_VALUE:
		return bytes.Compare(a.Value, b.Value)
	default:
		return bytes.Compare(a.Key, b.Key)
	}
}

func targetOnly(request *pb.RangeRequest, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	switch request.SortTarget {
	case pb.RangeRequest_VERSION:
		return &mvccpb.KeyValue{Version: kv.Version}
	case pb.RangeRequest_CREATE:
		return &mvccpb.KeyValue{CreateRevision: kv.CreateRevision}
	case pb.RangeRequest_MOD:
		return &mvccpb.KeyValue{ModRevision: kv.ModRevision}
	default:
		return &mvccpb.KeyValue{Value: kv.Value}
	}
}

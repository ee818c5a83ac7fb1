package differential

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// callTimeout bounds a call that need not wait for others; none of a healthy server comes near it.
const callTimeout = 20 * time.Second

// Call is one call, or one message of a stream. Numbers in the request may be symbols, see symbol.go.
type Call struct {
	Method  string
	Request proto.Message
	// Names is the lease symbol that stands for the lease this call creates
	// from now on, or 0.
	Names int64
	// Raw, where set, is sent in place of Request.
	Raw []byte
	// AsJSON sends it through the JSON gateway.
	AsJSON bool
	// Stream is the watch stream that a request of methodWatch goes to, or, of methodLeave,
	// a number among those who wait.
	Stream int
}

// Outcome is what a server made of a call.
type Outcome struct {
	Response proto.Message // nil on error
	Status   *status.Status
	JSON     *jsonAnswer // how the gateway put it, where it was asked
}

func (c Call) String() string {
	if c.Raw != nil {
		return fmt.Sprintf("%s raw %q", c.Method, c.Raw)
	}
	method := c.Method
	switch {
	case c.AsJSON:
		method += " as JSON"
	case c.Method == methodWatch:
		method += fmt.Sprintf(" stream %d", c.Stream)
	case c.Method == methodLeave:
		return fmt.Sprintf("leave %d", c.Stream)
	}
	return fmt.Sprintf("%s {%s}", method, prototext.MarshalOptions{}.Format(c.Request))
}

func (o Outcome) String() string {
	if o.Response == nil {
		return fmt.Sprintf("error %s %q", o.Status.Code(), o.Status.Message())
	}
	return fmt.Sprintf("{%s}", prototext.MarshalOptions{}.Format(o.Response))
}

// The calls that the workloads are made of.
const (
	methodRange       = "/etcdserverpb.KV/Range"
	methodPut         = "/etcdserverpb.KV/Put"
	methodDeleteRange = "/etcdserverpb.KV/DeleteRange"
	methodTxn         = "/etcdserverpb.KV/Txn"
	methodCompact     = "/etcdserverpb.KV/Compact"
	methodLeaseGrant  = "/etcdserverpb.Lease/LeaseGrant"
	methodLeaseRevoke = "/etcdserverpb.Lease/LeaseRevoke"
	methodLeaseTTL    = "/etcdserverpb.Lease/LeaseTimeToLive"
	methodMemberList  = "/etcdserverpb.Cluster/MemberList"
	methodAlarm       = "/etcdserverpb.Maintenance/Alarm"
	methodStatus      = "/etcdserverpb.Maintenance/Status"
	methodHashKV      = "/etcdserverpb.Maintenance/HashKV"
	methodLeases      = "/etcdserverpb.Lease/LeaseLeases"
	methodHash        = "/etcdserverpb.Maintenance/Hash"
	methodDefragment  = "/etcdserverpb.Maintenance/Defragment"
	methodMoveLeader  = "/etcdserverpb.Maintenance/MoveLeader"

	methodRangeStream = "/etcdserverpb.KV/RangeStream"
	methodKeepAlive   = "/etcdserverpb.Lease/LeaseKeepAlive"
	methodSnapshot    = "/etcdserverpb.Maintenance/Snapshot"
	methodWatch       = "/etcdserverpb.Watch/Watch"

	methodLock     = "/v3lockpb.Lock/Lock"
	methodUnlock   = "/v3lockpb.Lock/Unlock"
	methodCampaign = "/v3electionpb.Election/Campaign"
	methodProclaim = "/v3electionpb.Election/Proclaim"
	methodLeader   = "/v3electionpb.Election/Leader"
	methodObserve  = "/v3electionpb.Election/Observe"
	methodResign   = "/v3electionpb.Election/Resign"
	// methodLeave is no call: the client of one that waits hangs up.
	methodLeave = "leave"
)

// newResponse makes the message a method answers with. Methods that are not
// listed are expected to fail.
func newResponse(method string) proto.Message {
	switch method {
	case methodRange:
		return new(pb.RangeResponse)
	case methodPut:
		return new(pb.PutResponse)
	case methodDeleteRange:
		return new(pb.DeleteRangeResponse)
	case methodTxn:
		return new(pb.TxnResponse)
	case methodCompact:
		return new(pb.CompactionResponse)
	case methodLeaseGrant:
		return new(pb.LeaseGrantResponse)
	case methodLeaseRevoke:
		return new(pb.LeaseRevokeResponse)
	case methodLeaseTTL:
		return new(pb.LeaseTimeToLiveResponse)
	case methodMemberList:
		return new(pb.MemberListResponse)
	case methodAlarm:
		return new(pb.AlarmResponse)
	case methodStatus:
		return new(pb.StatusResponse)
	case methodHashKV:
		return new(pb.HashKVResponse)
	case methodLeases:
		return new(pb.LeaseLeasesResponse)
	case methodKeepAlive:
		return new(pb.LeaseKeepAliveResponse)
	case methodHash:
		return new(pb.HashResponse)
	case methodDefragment:
		return new(pb.DefragmentResponse)
	case methodMoveLeader:
		return new(pb.MoveLeaderResponse)
	case methodLock:
		return new(lpb.LockResponse)
	case methodUnlock:
		return new(lpb.UnlockResponse)
	case methodCampaign:
		return new(epb.CampaignResponse)
	case methodProclaim:
		return new(epb.ProclaimResponse)
	case methodLeader, methodObserve:
		return new(epb.LeaderResponse)
	case methodResign:
		return new(epb.ResignResponse)
	default:
		return new(emptypb.Empty)
	}
}

// invoke makes the call as it stands, symbols already replaced.
func (c Call) invoke(ctx context.Context, connection *grpc.ClientConn) Outcome {
	response := newResponse(c.Method)
	var err error
	if c.Raw != nil {
		err = connection.Invoke(ctx, c.Method, c.Raw, response, grpc.ForceCodec(rawCodec{}))
	} else {
		err = connection.Invoke(ctx, c.Method, c.Request, response)
	}
	if err != nil {
		return Outcome{Status: status.Convert(err)}
	}
	return Outcome{Response: response, Status: status.New(codes.OK, "")}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(value any) ([]byte, error) {
	raw, ok := value.([]byte)
	if !ok {
		return nil, fmt.Errorf("cannot send a %T as raw bytes", value)
	}
	return raw, nil
}

func (rawCodec) Unmarshal(data []byte, value any) error {
	message, ok := value.(proto.Message)
	if !ok {
		return fmt.Errorf("cannot decode into a %T", value)
	}
	return proto.Unmarshal(data, message)
}

package differential

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// renewer keeps leases alive on one stream.
type renewer struct {
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

func newRenewer(connection *grpc.ClientConn) (*renewer, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := pb.NewLeaseClient(connection).LeaseKeepAlive(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &renewer{stream: stream, cancel: cancel}, nil
}

func (r *renewer) ask(request *pb.LeaseKeepAliveRequest) Outcome {
	if err := r.stream.Send(request); err != nil {
		return Outcome{Status: status.Convert(err)}
	}
	response, err := r.stream.Recv()
	return outcomeOf(response, err)
}

func outcomeOf(response proto.Message, err error) Outcome {
	if err != nil {
		return Outcome{Status: status.Convert(err)}
	}
	return Outcome{Response: response, Status: status.New(codes.OK, "")}
}

// rangeStream joins the messages of a streamed range.
func rangeStream(connection *grpc.ClientConn, request *pb.RangeRequest) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := pb.NewKVClient(connection).RangeStream(ctx, request)
	if err != nil {
		return outcomeOf(nil, err)
	}
	whole := &pb.RangeResponse{}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return outcomeOf(whole, nil)
		}
		if err != nil {
			return outcomeOf(nil, err)
		}
		if whole.Header != nil {
			return outcomeOf(nil, errors.New("a message follows the one with the header"))
		}
		proto.Merge(whole, message.RangeResponse)
	}
}

// snapshot saves one, checks its digest, and answers with a summary of what is
// in it.
func snapshot(connection *grpc.ClientConn, folder string) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := pb.NewMaintenanceClient(connection).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return outcomeOf(nil, err)
	}
	var whole bytes.Buffer
	var version string
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return outcomeOf(nil, err)
		}
		if message.Header != nil {
			return outcomeOf(nil, errors.New("a header in a snapshot"))
		}
		whole.Write(message.Blob)
		version = message.Version
	}
	text, err := summary(whole.Bytes(), folder)
	return outcomeOf(wrapperspb.String("version "+version+"\n"+text), err)
}

// summary opens a snapshot as what it is, a file of bbolt.
func summary(whole []byte, folder string) (string, error) {
	content, digest := whole[:max(len(whole)-sha256.Size, 0)], whole[max(len(whole)-sha256.Size, 0):]
	if wanted := sha256.Sum256(content); !bytes.Equal(digest, wanted[:]) {
		return "", errors.New("the digest of a snapshot is wrong")
	}
	path := filepath.Join(folder, "snapshot.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", err
	}
	defer os.Remove(path)
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return "", err
	}
	defer db.Close()
	var text strings.Builder
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			return describeBucket(&text, string(name), bucket)
		})
	})
	return text.String(), err
}

// exemptMeta says where in its own log a server stands.
var exemptMeta = map[string]bool{"consistent_index": true, "term": true}

func describeBucket(text *strings.Builder, name string, bucket *bolt.Bucket) error {
	count, sum := 0, crc32.NewIEEE()
	err := bucket.ForEach(func(key, value []byte) error {
		count++
		switch {
		case name == "meta" && exemptMeta[string(key)]:
		case name == "key":
			fmt.Fprintf(sum, "%q %q\n", key, value)
		default:
			fmt.Fprintf(text, "%s: %q %q\n", name, key, value)
		}
		return nil
	})
	fmt.Fprintf(text, "%s: %d pairs, %08x\n", name, count, sum.Sum32())
	return err
}

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

const (
	largeLen   = 10 << 20
	limitLen   = 16 << 20
	largeCount = 4
)

// The windows a client starts with: the least, which makes a server send in
// many pieces, and one that takes a message at once.
var windows = map[string][]grpc.DialOption{
	"small windows": {grpc.WithInitialWindowSize(65_535), grpc.WithInitialConnWindowSize(65_535)},
	"large windows": {grpc.WithInitialWindowSize(64 << 20), grpc.WithInitialConnWindowSize(64 << 20)},
}

func TestLargeValues(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{
		Flags: []string{fmt.Sprintf("--max-request-bytes=%d", limitLen), "--unsafe-no-fsync"},
	})
	for name, options := range windows {
		t.Run(name, func(t *testing.T) {
			client := connect(t, server, clientv3.Config{
				MaxCallSendMsgSize: 2 * limitLen,
				MaxCallRecvMsgSize: 2 * largeCount * largeLen,
				DialOptions:        options,
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			exchangeLarge(ctx, t, client)
		})
	}
}

// exchangeLarge puts values side by side on one connection, with small calls
// between them, and reads them back one by one and all in one message.
func exchangeLarge(ctx context.Context, t *testing.T, client *clientv3.Client) {
	t.Helper()
	group, ctx := errgroup.WithContext(ctx)
	for i := range largeCount {
		group.Go(func() error {
			return putAndGet(ctx, client, fmt.Sprintf("large/%d", i), pattern(i))
		})
	}
	group.Go(func() error {
		for i := range 100 {
			if err := putAndGet(ctx, client, "small", []byte(fmt.Sprint(i))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func putAndGet(ctx context.Context, client *clientv3.Client, key string, value []byte) error {
	if _, err := client.Put(ctx, key, string(value)); err != nil {
		return fmt.Errorf("putting %s: %w", key, err)
	}
	got, err := client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("getting %s: %w", key, err)
	}
	if len(got.Kvs) != 1 || !bytes.Equal(got.Kvs[0].Value, value) {
		return fmt.Errorf("%s came back different", key)
	}
	return nil
}

func TestManyLargeValuesInOneMessage(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{
		Flags: []string{fmt.Sprintf("--max-request-bytes=%d", limitLen), "--unsafe-no-fsync"},
	})
	client := connect(t, server, clientv3.Config{
		MaxCallSendMsgSize: 2 * limitLen, MaxCallRecvMsgSize: 2 * largeCount * largeLen,
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range largeCount {
		if _, err := client.Put(ctx, fmt.Sprintf("large/%d", i), string(pattern(i))); err != nil {
			t.Fatal(err)
		}
	}
	all, err := client.Get(ctx, "large/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Kvs) != largeCount {
		t.Fatalf("%d pairs", len(all.Kvs))
	}
	for i, kv := range all.Kvs {
		if !bytes.Equal(kv.Value, pattern(i)) {
			t.Fatalf("%s came back different", kv.Key)
		}
	}
}

// The limits hold where nobody raised them, and the connection survives.
func TestLargeRequestsAreRefused(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	client := connect(t, server, clientv3.Config{MaxCallSendMsgSize: 2 * limitLen})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := client.Put(ctx, "k", string(pattern(0)[:1_600_000])); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Fatalf("a request over the limit: %v", err)
	}
	_, err := client.Put(ctx, "k", string(pattern(0)))
	messageLen := proto.Size(&pb.PutRequest{Key: []byte("k"), Value: pattern(0)})
	wanted := fmt.Sprintf("grpc: received message larger than max (%d vs. 2097152)", messageLen)
	if err == nil || rpctypes.ErrorDesc(err) != wanted {
		t.Fatalf("a message over the limit: %v", err)
	}
	if err := putAndGet(ctx, client, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
}

// pattern is a value that differs in every part, so that no piece can be
// missing, doubled or out of place unseen.
func pattern(seed int) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed)})
	value := make([]byte, largeLen)
	_, _ = random.Read(value)
	return value
}

func connect(t *testing.T, server *harness.Server, config clientv3.Config) *clientv3.Client {
	t.Helper()
	config.Endpoints = []string{server.Endpoint}
	config.DialTimeout = 10 * time.Second
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

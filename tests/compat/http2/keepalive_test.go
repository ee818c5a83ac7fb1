package http2

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/status"
)

// onBoth compares what a server with these flags shows with what etcd shows.
func onBoth(t *testing.T, flags []string, look func(t *testing.T, server *harness.Server) []string) {
	t.Helper()
	seen := map[string][]string{}
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		seen[program.Name] = look(t, harness.Start(t, program, harness.Options{Flags: flags}))
	}
	for name, lines := range seen {
		if difference := cmp.Diff(seen["etcd37"], lines); difference != "" {
			t.Errorf("%s (-reference +subject):\n%s", name, difference)
		}
	}
}

// A client that pings more often than it may hears too_many_pings, sooner if it has no call open.
func TestPingsOfClients(t *testing.T) {
	t.Parallel()
	onBoth(t, []string{"--grpc-keepalive-min-time=500ms"}, func(t *testing.T, server *harness.Server) []string {
		var lines []string
		for _, gap := range []time.Duration{20 * time.Millisecond, 700 * time.Millisecond} {
			for _, hasCall := range []bool{false, true} {
				lines = append(lines, fmt.Sprintf("every %s, call %t: %s", gap, hasCall, pingOften(t, server, gap, hasCall)))
			}
		}
		return lines
	})
}

// pingOften says how the connection ended, if it did.
func pingOften(t *testing.T, server *harness.Server, gap time.Duration, hasCall bool) string {
	t.Helper()
	framer, connection := open(t, server)
	if hasCall {
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.Watch/Watch"}, {":authority", "x"},
			{"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	}
	ended := make(chan string, 1)
	go func() {
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				ended <- "closed"
				return
			}
			if away, ok := frame.(*http2.GoAwayFrame); ok {
				ended <- fmt.Sprintf("%s %q", away.ErrCode, away.DebugData())
				return
			}
		}
	}()
	for range 5 {
		_ = framer.WritePing(false, [8]byte{})
		select {
		case end := <-ended:
			return end
		case <-time.After(gap):
		}
	}
	_ = connection
	select {
	case end := <-ended:
		return end
	case <-time.After(200 * time.Millisecond):
		return "goes on"
	}
}

// A client that says nothing is pinged, and given up if it does not answer.
func TestPingsOfServers(t *testing.T) {
	t.Parallel()
	flags := []string{"--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"}
	onBoth(t, flags, func(t *testing.T, server *harness.Server) []string {
		framer, connection := open(t, server)
		_ = connection.SetReadDeadline(time.Now().Add(20 * time.Second))
		var lines []string
		for {
			frame, err := framer.ReadFrame()
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				return append(lines, "is kept")
			}
			if err != nil {
				return append(lines, "is closed")
			}
			if _, ok := frame.(*http2.PingFrame); ok {
				lines = append(lines, "is pinged")
			}
		}
	})
}

// The call beyond --max-concurrent-streams waits.
func TestStreamLimit(t *testing.T) {
	t.Parallel()
	onBoth(t, []string{"--max-concurrent-streams=2"}, func(t *testing.T, server *harness.Server) []string {
		connection := server.Connection(t)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var lines []string
		for range 2 {
			watch, err := pb.NewWatchClient(connection).Watch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_ = watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
				CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")},
			}})
			created, err := watch.Recv()
			lines = append(lines, fmt.Sprint(created.GetCreated(), err))
		}
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		_, err := pb.NewKVClient(connection).Range(short, &pb.RangeRequest{Key: []byte("k")})
		return append(lines, status.Code(err).String())
	})
}

func open(t *testing.T, server *harness.Server) (*http2.Framer, net.Conn) {
	t.Helper()
	connection, err := net.Dial("tcp", server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if _, err := connection.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(connection, connection)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return framer, connection
}

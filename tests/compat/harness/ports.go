package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports lie below the range the kernel takes for outgoing connections, so
// no client can sit on one between the probe and the server's own bind, and
// all have five digits, so addresses are equally wide in tables.
const (
	portFirst = 10_000
	portLimit = 32_000
)

// given holds the ports that were handed out: a server that is down may come back on its own.
var (
	givenLock sync.Mutex
	given     = map[int]bool{}
)

// FreePort finds one for a test.
func FreePort(t testing.TB) int {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// freePorts finds loopback ports that nobody listens on. No two calls give the same one.
func freePorts(count int) ([]int, error) {
	ports := make([]int, 0, count)
	held := make([]net.Listener, 0, count)
	givenLock.Lock()
	defer givenLock.Unlock()
	defer func() {
		for _, listener := range held {
			_ = listener.Close()
		}
	}()
	for attempt := 0; attempt < 1000 && len(ports) < count; attempt++ {
		port := portFirst + rand.IntN(portLimit-portFirst)
		if given[port] {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		given[port] = true
		held = append(held, listener)
		ports = append(ports, port)
	}
	if len(ports) < count {
		return nil, fmt.Errorf("found %d of %d free ports", len(ports), count)
	}
	return ports, nil
}

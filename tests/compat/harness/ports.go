package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports lie below the range the kernel takes for outgoing connections, so
// no client can sit on one between the probe and the server's own bind, and
// all have five digits, so addresses are equally wide in tables.
const (
	portFirst = 10_000
	portLimit = 32_000
)

// freePorts finds loopback ports that nobody listens on.
func freePorts(count int) ([]int, error) {
	ports := make([]int, 0, count)
	held := make([]net.Listener, 0, count)
	defer func() {
		for _, listener := range held {
			_ = listener.Close()
		}
	}()
	for attempt := 0; attempt < 1000 && len(ports) < count; attempt++ {
		port := portFirst + rand.IntN(portLimit-portFirst)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		held = append(held, listener)
		ports = append(ports, port)
	}
	if len(ports) < count {
		return nil, fmt.Errorf("found %d of %d free ports", len(ports), count)
	}
	return ports, nil
}

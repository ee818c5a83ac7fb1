package foreign

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"
)

func TestPython(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		host, port, err := net.SplitHostPort(access.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		run(t, access, "pairs transactions watches leases locks maintenance",
			harness.Tool(t, "python/venv/bin/python"), harness.Tool(t, "python/smoke.py"), host, port)
	})
}

func TestTonic(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		run(t, access, "unary refusals watch keep-alive range stream snapshot",
			harness.Tool(t, "tonic/target/debug/tonic-smoke"), access.URL)
	})
}

// run has a program go through all its parts, each of which it names when it is through.
func run(t *testing.T, access *harness.Access, parts string, words ...string) {
	t.Helper()
	if authority, certificate, key := access.Files(); authority != "" {
		words = append(words, authority, certificate, key)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// Threads of the Python client complain on stderr of the connection's end, which is ours.
	var complaints strings.Builder
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, output, &complaints)
	}
	if got := strings.Join(strings.Fields(string(output)), " "); got != parts {
		t.Fatalf("it went through %q", got)
	}
}

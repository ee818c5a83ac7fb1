package http2

import (
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"etcore/tests/compat/harness"
)

var summary = regexp.MustCompile(`(?m)^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed$`)

// leastTests is how many tests h2spec 2.2.1 has: fewer were not all.
const leastTests = 145

func TestH2spec(t *testing.T) {
	t.Parallel()
	// Without a limit, as by default, h2spec skips the test of the limit.
	server := harness.Start(t, harness.Etcore(t), harness.Options{Flags: []string{"--max-concurrent-streams=100"}})
	host, port, err := net.SplitHostPort(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(harness.Tool(t, "bin/h2spec"),
		"--host", host, "--port", port, "--path", "/version", "--timeout", "2").CombinedOutput()
	counts := summary.FindSubmatch(output)
	switch {
	case err != nil || counts == nil:
		t.Fatalf("h2spec: %v\n%s", err, output)
	case number(t, counts[1]) < leastTests || string(counts[1]) != string(counts[2]):
		t.Fatalf("%s\n%s", counts[0], output)
	default:
		t.Logf("%s", counts[0])
	}
}

func number(t *testing.T, text []byte) int {
	t.Helper()
	value, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

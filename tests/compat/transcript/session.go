package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const commandTimeout = 30 * time.Second

// session is one etcdctl at work on one server.
type session struct {
	etcdctl  string
	endpoint string
	leases   leaseIDs
}

// result is what a command printed, masked, and its exit code.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.code, r.stdout, r.stderr)
}

func (s *session) run(command command) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	words := []string{"--endpoints", s.endpoint}
	for _, word := range command.words {
		words = append(words, s.leases.insert(word))
	}
	process := exec.CommandContext(ctx, s.etcdctl, words...)
	process.Env = []string{"TZ=UTC", "LANG=C"}
	process.Stdin = strings.NewReader(command.input)
	var stdout, stderr bytes.Buffer
	process.Stdout, process.Stderr = &stdout, &stderr
	err := process.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, fmt.Errorf("%s: %w", command.line, err)
	}
	if command.starts("lease", "grant") {
		s.leases.learn(stdout.String())
	}
	return result{
		stdout: s.maskOutput(command, stdout.Bytes()),
		stderr: s.maskText(command, stderr.String()),
		code:   process.ProcessState.ExitCode(),
	}, nil
}

// starts says whether a command begins with these words.
func (c command) starts(words ...string) bool {
	for i, word := range words {
		if i >= len(c.words) || c.words[i] != word {
			return false
		}
	}
	return true
}

// format is the value of -w.
func (c command) format() string {
	for i, word := range c.words {
		if word == "-w" && i+1 < len(c.words) {
			return c.words[i+1]
		}
	}
	return "simple"
}

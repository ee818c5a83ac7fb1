package ctl

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcore/tests/compat/harness"
)

// limit is for one command, check perf apart.
const limit = time.Minute

func command(t *testing.T, access *harness.Access, words ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, harness.Tool(t, "bin/etcdctl"), append(access.Etcdctl(), words...)...)
	command.Env = harness.Environment()
	return command
}

// run is a command that ends by itself, well.
func run(t *testing.T, access *harness.Access, words ...string) string {
	t.Helper()
	output, err := command(t, access, words...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", words, err, output)
	}
	return string(output)
}

func requireOutput(t *testing.T, access *harness.Access, wanted string, words ...string) {
	t.Helper()
	if got := run(t, access, words...); got != wanted {
		t.Fatalf("%q printed\n%s\nwanted\n%s", words, got, wanted)
	}
}

// running is a command that goes on until it is told to end.
type running struct {
	t       *testing.T
	words   []string
	command *exec.Cmd
	input   io.Writer
	lines   chan string
	errors  *lockedText
}

func start(t *testing.T, access *harness.Access, words ...string) *running {
	t.Helper()
	r := &running{t: t, words: words, command: command(t, access, words...), lines: make(chan string, 1000), errors: &lockedText{}}
	output, err := r.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if r.input, err = r.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r.command.Stderr = r.errors
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.command.Process.Kill() })
	go func() {
		defer close(r.lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			r.lines <- scanner.Text()
		}
	}()
	return r
}

func (r *running) say(line string) {
	r.t.Helper()
	if _, err := io.WriteString(r.input, line+"\n"); err != nil {
		r.t.Fatal(err)
	}
}

// line is the next one that is printed.
func (r *running) line() string {
	r.t.Helper()
	select {
	case line, ok := <-r.lines:
		if !ok {
			r.t.Fatalf("%q ended: %s", r.words, r.errors)
		}
		return line
	case <-time.After(limit):
		r.t.Fatalf("%q prints nothing: %s", r.words, r.errors)
	}
	return ""
}

// rest is all that is printed until the end.
func (r *running) rest() string {
	r.t.Helper()
	var text strings.Builder
	for line := range r.lines {
		text.WriteString(line + "\n")
	}
	_ = r.command.Wait()
	return text.String() + r.errors.String()
}

func (r *running) require(wanted ...string) {
	r.t.Helper()
	for i, line := range wanted {
		if got := r.line(); got != line {
			r.t.Fatalf("%q printed %q in line %d, wanted %q", r.words, got, i, line)
		}
	}
}

// interrupt has the command end itself, as a user does.
func (r *running) interrupt() {
	r.t.Helper()
	if err := r.command.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	_ = r.command.Wait()
}

// lockedText is written by a command and read by the test.
type lockedText struct {
	lock sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(bytes []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.Write(bytes)
}

func (l *lockedText) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.String()
}

package harness

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What every server advertises. Nobody dials these addresses.
const (
	AdvertisedClientURL = "http://127.0.0.1:2379"
	AdvertisedPeerURL   = "http://127.0.0.1:2380"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
	startTries   = 3
)

// Options say how a server is started.
type Options struct {
	// DataDir holds the data. Empty: a fresh one below Scratch.
	DataDir string
	// Scratch is a folder of the test for logs and fresh data directories.
	Scratch string
	// Flags are added to the command line.
	Flags []string
	// FlagsAt are added too, once the ports are known; peer is where other members reach the server.
	FlagsAt func(peer string) []string
	// TLS has the client listener speak TLS as well; Flags name the files.
	TLS bool
	// Sockets are more URLs of listeners for clients, of unix and unixs.
	Sockets []string
	// OnlyTLS has it speak nothing else; Flags must not ask clients for certificates.
	OnlyTLS bool
}

// Server is a running, or stopped, server process.
type Server struct {
	Program  Program
	DataDir  string
	Endpoint string // host:port of the client listener
	Peer     string // host:port of the peer listener

	flags   []string
	flagsAt func(peer string) []string
	tls     bool
	onlyTLS bool
	sockets []string
	logPath string
	command *exec.Cmd
	exited  chan struct{}
}

// Start launches a server and stops it when the test ends.
func Start(t testing.TB, program Program, options Options) *Server {
	t.Helper()
	if options.Scratch == "" {
		options.Scratch = t.TempDir()
	}
	server, err := Launch(program, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Kill()
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", program.Name, server.LogTail())
		}
	})
	return server
}

// Refusal starts a server that must not start, waits for its end and returns
// all it said. It must not be a signal that ended it.
func Refusal(t testing.TB, program Program, options Options) string {
	t.Helper()
	if options.Scratch == "" {
		options.Scratch = t.TempDir()
	}
	server, err := Launch(program, options)
	if err == nil {
		server.Kill()
		t.Fatalf("%s started on %s", program.Name, options.DataDir)
	}
	var early *EndedError
	if !errors.As(err, &early) {
		t.Fatal(err)
	}
	if !early.State.Exited() {
		t.Errorf("%s was ended by a signal: %s", program.Name, early.State)
	}
	return early.Log
}

// EndedError tells of a server that ended before it answered.
type EndedError struct {
	State *os.ProcessState
	Log   string
}

func (e *EndedError) Error() string { return fmt.Sprintf("ended at start: %s", e.State) }

// Launch starts a server and waits until it answers. The caller must call Kill.
func Launch(program Program, options Options) (*Server, error) {
	scratch, err := os.MkdirTemp(options.Scratch, program.Name+"-")
	if err != nil {
		return nil, err
	}
	server := &Server{
		Program: program,
		DataDir: options.DataDir,
		flags:   options.Flags,
		flagsAt: options.FlagsAt,
		tls:     options.TLS,
		onlyTLS: options.OnlyTLS,
		sockets: options.Sockets,
		logPath: filepath.Join(scratch, "log"),
	}
	if server.DataDir == "" {
		server.DataDir = filepath.Join(scratch, "data")
	}
	if err := server.startAnyhow(server.startOnNewPorts); err != nil {
		return nil, fmt.Errorf("%s did not start: %w\nend of its log:\n%s", program.Name, err, server.LogTail())
	}
	return server, nil
}

// startAnyhow starts on new ports where another process was quicker to take the ones at hand.
func (s *Server) startAnyhow(first func() error) error {
	err := first()
	for try := 1; err != nil && try < startTries && strings.Contains(s.LogTail(), "address already in use"); try++ {
		err = s.startOnNewPorts()
	}
	return err
}

func (s *Server) startOnNewPorts() error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	s.Endpoint = fmt.Sprintf("127.0.0.1:%d", ports[0])
	s.Peer = fmt.Sprintf("127.0.0.1:%d", ports[1])
	return s.start()
}

// Restart starts a stopped server again on its directory, and on its ports unless somebody took one.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.startAnyhow(s.start); err != nil {
		t.Fatalf("%s did not start again: %v\nend of its log:\n%s", s.Program.Name, err, s.LogTail())
	}
}

func (s *Server) start() error {
	log, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()

	command := exec.Command(s.Program.Path, s.arguments()...)
	command.Env = Environment()
	command.Stdout = log
	command.Stderr = log
	if err := spawn(command); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(exited)
	}()
	s.command, s.exited = command, exited
	if err := s.awaitReady(); err != nil {
		s.Kill()
		return err
	}
	return nil
}

func (s *Server) arguments() []string {
	clientURLs := "http://" + s.Endpoint
	if s.tls {
		clientURLs += ",https://" + s.Endpoint
	}
	if s.onlyTLS {
		clientURLs = "https://" + s.Endpoint
	}
	clientURLs = strings.Join(append([]string{clientURLs}, s.sockets...), ",")
	arguments := append([]string{
		"--name=default",
		"--data-dir=" + s.DataDir,
		"--listen-client-urls=" + clientURLs,
		"--advertise-client-urls=" + AdvertisedClientURL,
		"--listen-peer-urls=http://" + s.Peer,
		"--initial-advertise-peer-urls=" + AdvertisedPeerURL,
		"--initial-cluster=default=" + AdvertisedPeerURL,
	}, s.flags...)
	if s.flagsAt != nil {
		arguments = append(arguments, s.flagsAt(s.Peer)...)
	}
	return append(arguments, s.Program.Flags...)
}

// Environment is ours without the variables that servers and etcdctl take for settings.
func Environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ETCD") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// awaitReady asks for /health until the answer is good, or only short of space.
func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := s.health(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return &EndedError{State: s.command.ProcessState, Log: s.LogTail()}
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", startTimeout, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) health(ctx context.Context) error {
	scheme := "http"
	if s.onlyTLS {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+s.Endpoint+"/health?exclude=NOSPACE", nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := anyCertificate.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/health answered %s: %s", response.Status, body)
	}
	return nil
}

// anyCertificate believes every server.
var anyCertificate = &http.Client{Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
}}

// Kill ends the process with SIGKILL and waits for its end.
func (s *Server) Kill() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill()
	<-s.exited
}

// Stop ends the process with SIGTERM and returns its state.
func (s *Server) Stop(t testing.TB) *os.ProcessState {
	t.Helper()
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		t.Fatalf("%s did not end within %s of SIGTERM", s.Program.Name, stopTimeout)
	}
	return s.command.ProcessState
}

// Running says whether the process has not ended.
func (s *Server) Running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Pid is the id of the process.
func (s *Server) Pid() int {
	return s.command.Process.Pid
}

// LogTail is the end of what the server wrote to stdout and stderr.
func (s *Server) LogTail() string {
	const tailLen = 6000
	log, err := os.ReadFile(s.logPath)
	if err != nil {
		return err.Error()
	}
	if len(log) > tailLen {
		log = log[len(log)-tailLen:]
	}
	return string(log)
}

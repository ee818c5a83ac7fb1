package harness

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

type spawnRequest struct {
	command *exec.Cmd
	started chan<- error
}

// spawnRequests reaches the one thread that starts processes.
var spawnRequests = sync.OnceValue(func() chan<- spawnRequest {
	requests := make(chan spawnRequest)
	go func() {
		// The kernel sends the parent-death signal when the starting thread
		// ends, so that thread must last as long as the test binary.
		runtime.LockOSThread()
		for request := range requests {
			request.started <- request.command.Start()
		}
	}()
	return requests
})

// spawn starts a command that is killed when the test binary ends.
func spawn(command *exec.Cmd) error {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	spawnRequests() <- spawnRequest{command: command, started: started}
	return <-started
}

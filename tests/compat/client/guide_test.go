package client

import (
	"os/exec"
	"testing"

	"etcore/tests/compat/harness"
)

const guideOutput = `sample_key : sample_value
lock taken: true
lock taken: false
held by me
deleted: 1
left: 1 revision: 4
`

func TestGuideRunsUnchanged(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	output, err := exec.Command("go", "run", "./guide", server.Endpoint).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if string(output) != guideOutput {
		t.Fatalf("the program printed\n%s", output)
	}
}

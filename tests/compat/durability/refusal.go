package durability

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"etcore/tests/compat/harness"
)

// requireAdvice checks how etcore says that it does not start: in one line of
// its log that names what it is about, without a panic or a backtrace.
func requireAdvice(t *testing.T, program harness.Program, log string, wanted ...string) {
	t.Helper()
	if program.Name != "etcore" {
		return // etcd panics, some of the time
	}
	var severe []string
	for line := range strings.Lines(log) {
		var record struct{ Level string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("a line that is no JSON: %s", line)
			continue
		}
		if slices.Contains([]string{"error", "panic", "fatal"}, record.Level) {
			severe = append(severe, line)
		}
	}
	if len(severe) != 1 {
		t.Fatalf("%d lines say why:\n%s", len(severe), log)
	}
	t.Logf("refused: %s", severe[0])
	for _, text := range append(wanted, "member") {
		if !strings.Contains(severe[0], text) {
			t.Errorf("no word of %q in %s", text, severe[0])
		}
	}
}

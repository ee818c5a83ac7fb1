package durability

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"etcore/tests/compat/differential"
	"etcore/tests/compat/harness"
)

// TestDumpLogsReadsDirectory lets etcd's own tool print our log, and the
// reference's log of the same workload: both must hold the same requests.
func TestDumpLogsReadsDirectory(t *testing.T) {
	t.Parallel()
	calls := differential.Workload(workloadSeed, workloadCalls)
	var logged [2][]string
	for i, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		server := harness.Start(t, program, harness.Options{})
		play(t, differential.NewPlayer(server.Connection(t)), calls)
		server.Stop(t)
		logged[i] = dumpedRequests(t, server.DataDir)
	}
	if len(logged[0]) < workloadCalls/2 {
		t.Fatalf("only %d requests in the log", len(logged[0]))
	}
	for i := range min(len(logged[0]), len(logged[1])) {
		if logged[0][i] != logged[1][i] {
			t.Fatalf("request %d is %s, wanted %s", i, logged[1][i], logged[0][i])
		}
	}
	if len(logged[0]) != len(logged[1]) {
		t.Fatalf("%d requests, wanted %d", len(logged[1]), len(logged[0]))
	}
}

var (
	entryLine = regexp.MustCompile(`(?m)^ +(\d+)\t +(\d+)\t(conf|norm)\t(.*?) *$`)
	requestID = regexp.MustCompile(`header:<ID:[1-9]\d* >`)
	// What etcd proposes on its own or for reads may come at other moments or not at all.
	otherEntry = regexp.MustCompile(`^$|^header:<ID:\d+ > alarm:`)
	// These two are proposed at the start, side by side.
	startEntry = regexp.MustCompile(`cluster_member_attr_set|cluster_version_set`)
)

// dumpedRequests are the requests in a log as etcd-dump-logs prints them,
// without what may differ: term, index and the ids of requests.
func dumpedRequests(t *testing.T, dataDir string) []string {
	t.Helper()
	output, err := exec.Command(harness.Tool(t, "etcd36/bin/etcd-dump-logs"), dataDir).CombinedOutput()
	if err != nil {
		t.Fatalf("etcd-dump-logs: %v\n%s", err, output)
	}
	var starts, requests []string
	for _, match := range entryLine.FindAllStringSubmatch(string(output), -1) {
		request := match[4]
		masked := requestID.ReplaceAllString(request, "header:<ID >")
		switch {
		case otherEntry.MatchString(request):
		case startEntry.MatchString(request):
			starts = append(starts, masked)
		default:
			requests = append(requests, match[3]+" "+masked)
		}
	}
	slices.Sort(starts)
	if len(requests) == 0 {
		t.Fatalf("no entries in the output of etcd-dump-logs:\n%s", output[:min(len(output), 2000)])
	}
	if !strings.HasPrefix(requests[0], "conf method=ConfChangeAddNode") {
		t.Fatalf("the log begins with %q", requests[0])
	}
	return append(starts, requests...)
}

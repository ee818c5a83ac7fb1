package ctl

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestWatchInteractive(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		run(t, access, "put", "a", "1")
		watch := start(t, access, "watch", "-i")
		// The second one is there once the events of the first are: they are of one stream.
		watch.say("watch b/ --prefix --rev=1")
		watch.say("watch a --rev=2 --prev-kv")
		watch.require("PUT", "a", "1")
		run(t, access, "put", "b/1", "x")
		watch.require("PUT", "b/1", "x")
		run(t, access, "put", "a", "2")
		watch.require("PUT", "a", "1", "a", "2")
		run(t, access, "del", "b/", "--prefix")
		watch.require("DELETE", "b/1", "")
		watch.interrupt()
	})
}

func TestLeaseCommands(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		granted := regexp.MustCompile(`^lease ([0-9a-f]{16}) granted with TTL\(2s\)\n$`).FindStringSubmatch(run(t, access, "lease", "grant", "2"))
		if granted == nil {
			t.Fatal("nothing is granted")
		}
		lease := granted[1]
		kept := fmt.Sprintf("lease %s keepalived with TTL(2)", lease)
		requireOutput(t, access, kept+"\n", "lease", "keep-alive", "--once", lease)
		keeper := start(t, access, "lease", "keep-alive", lease)
		requireOutput(t, access, "OK\n", "put", "leased", "v", "--lease="+lease)
		keeper.require(kept, kept, kept, kept) // longer than it would live
		requireOutput(t, access, "leased\nv\n", "get", "leased")
		requireOutput(t, access, "found 1 leases\n"+lease+"\n", "lease", "list")
		if left := run(t, access, "lease", "timetolive", lease, "--keys"); !strings.HasSuffix(left, "attached keys([leased])\n") {
			t.Fatalf("the lease: %s", left)
		}
		requireOutput(t, access, "lease "+lease+" revoked\n", "lease", "revoke", lease)
		line := keeper.line()
		for line == kept { // renewed meanwhile
			line = keeper.line()
		}
		if line != "lease "+lease+" expired or revoked." {
			t.Fatalf("a revoked lease is kept alive: %q", line)
		}
		requireOutput(t, access, "", "get", "leased")
	})
}

func TestLockPassesOn(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		first := start(t, access, "lock", "job")
		key := first.line()
		if !strings.HasPrefix(key, "job/") {
			t.Fatalf("locked by %q", key)
		}
		second := start(t, access, "lock", "job", "--", "sh", "-c", "echo mine $ETCD_LOCK_KEY")
		awaitKeys(t, access, "job/", 2)
		first.interrupt()
		if line := second.line(); !strings.HasPrefix(line, "mine job/") {
			t.Fatalf("the second holder prints %q", line)
		}
		if err := second.command.Wait(); err != nil {
			t.Fatal(err)
		}
		requireOutput(t, access, "", "get", "job/", "--prefix")
	})
}

func TestElectPassesOn(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		first := start(t, access, "elect", "head", "one")
		observer := start(t, access, "elect", "-l", "head")
		leader := first.line()
		first.require("one")
		observer.require(leader, "one")
		second := start(t, access, "elect", "head", "two")
		awaitKeys(t, access, "head/", 2)
		first.interrupt()
		leader = second.line()
		second.require("two")
		observer.require(leader, "two")
	})
}

// awaitKeys waits, by a watch, until so many keys were put below a prefix.
func awaitKeys(t *testing.T, access *harness.Access, prefix string, count int) {
	t.Helper()
	watch := start(t, access, "watch", "--prefix", prefix, "--rev=1")
	for range count {
		watch.require("PUT")
		for range 2 {
			watch.line()
		}
	}
	watch.interrupt()
}

func TestMaintenanceCommands(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		for number := range 20 {
			run(t, access, "put", fmt.Sprint("key", number), strings.Repeat("v", 1000))
		}
		requireOutput(t, access, "compacted revision 20\n", "compaction", "20", "--physical")
		path := filepath.Join(t.TempDir(), "saved.db")
		saved := run(t, access, "snapshot", "save", path)
		if !strings.Contains(saved, "Snapshot saved at "+path+"\n") {
			t.Fatalf("saving printed\n%s", saved)
		}
		status, err := exec.Command(harness.Tool(t, "bin/etcdutl"), "snapshot", "status", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, status)
		}
		if defragmented := run(t, access, "defrag"); !strings.HasPrefix(defragmented, "Finished defragmenting etcd member["+access.URL+"]. took ") {
			t.Fatalf("defragmenting printed\n%s", defragmented)
		}
		raiseAlarm(t, access)
		requireAlarm(t, run(t, access, "alarm", "list"))
		if output, err := command(t, access, "put", "a", "b").CombinedOutput(); err == nil || !strings.Contains(string(output), "etcdserver: corrupt cluster") {
			t.Fatalf("a put under alarm: %v %s", err, output)
		}
		requireAlarm(t, run(t, access, "alarm", "disarm"))
		requireOutput(t, access, "", "alarm", "list")
		requireOutput(t, access, "Leadership transferred from b71f75320dc06a6c to b71f75320dc06a6c\n", "move-leader", "b71f75320dc06a6c")
		if output, err := command(t, access, "move-leader", "1").CombinedOutput(); err == nil || !strings.Contains(string(output), "bad leader transferee") {
			t.Fatalf("a leader that is no member: %v %s", err, output)
		}
	})
}

// requireAlarm allows for Go's choice of one blank or two.
func requireAlarm(t *testing.T, output string) {
	t.Helper()
	if words := strings.Fields(output); len(words) != 2 || words[0] != "memberID:13195394291058371180" || words[1] != "alarm:CORRUPT" {
		t.Fatalf("the alarm: %q", output)
	}
}

// raiseAlarm does what no etcdctl command does.
func raiseAlarm(t *testing.T, access *harness.Access) {
	t.Helper()
	client := access.Client(t)
	members, err := client.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = clientv3.RetryMaintenanceClient(client, client.ActiveConnection()).Alarm(t.Context(), &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: members.Members[0].ID, Alarm: pb.AlarmType_CORRUPT,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMirrorIsMade(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		run(t, access, "put", "app/1", "one")
		words := []string{"make-mirror", access.URL, "--prefix=app/", "--dest-prefix=copy/"}
		if authority, certificate, key := access.Files(); authority != "" {
			words = append(words, "--dest-insecure-transport=false",
				"--dest-cacert="+authority, "--dest-cert="+certificate, "--dest-key="+key)
		}
		mirror := start(t, access, words...)
		watch := start(t, access, "watch", "--prefix", "copy/", "--rev=1")
		watch.require("PUT", "copy/1", "one")
		run(t, access, "put", "app/2", "two")
		watch.require("PUT", "copy/2", "two")
		run(t, access, "del", "app/1")
		watch.require("DELETE", "copy/1", "")
		mirror.interrupt()
		watch.interrupt()
		requireOutput(t, access, "copy/2\ntwo\n", "get", "copy/", "--prefix")
	})
}

// The command takes a minute, by its own choice. How slow the slowest put of a machine is
// that others use as well must not decide here.
func TestCheckPerf(t *testing.T) {
	t.Parallel()
	checks := map[string]*running{}
	accesses := harness.EveryAccess(t)
	for name, access := range accesses {
		checks[name] = start(t, access, "check", "perf", "--load=s", "--auto-compact", "--auto-defrag")
	}
	for name, check := range checks {
		output := check.rest()
		if strings.Contains(output, "ERROR") || !strings.Contains(output, "Slowest request took") {
			t.Fatalf("%s: %s", name, output)
		}
		requireOutput(t, accesses[name], "", "get", "", "--prefix", "--keys-only")
	}
}

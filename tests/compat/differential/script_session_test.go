package differential

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"testing"

	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
)

// asJSON has all calls go through the gateway that can.
func asJSON(calls []Call) []Call {
	for i := range calls {
		calls[i].AsJSON = gatewayPaths[calls[i].Method] != ""
	}
	return calls
}

func grants(ids ...int64) []Call {
	var calls []Call
	for _, id := range ids {
		calls = append(calls, grant(id, leaseTTLFirst))
	}
	return calls
}

func locks() []Call {
	return slices.Concat(grants(1, 2, 3, 4, 10, -5), []Call{
		// In their order; one of them leaves, and one loses its lease.
		lock("l", 10), lock("l", 10), lock("l", 1), lock("l", 2), lock("l", 3), lock("l", 4), put("other", "v"), leave(1),
		revoke(3), unlock("l/a"), unlock("l/1"), unlock("l/4"), get("l/4"), unlock("l/4"),
		// Who waits loses the key, or all do, and gets it again.
		lock("l", 1), lock("l", 2), del("l/2"), lock("l", 2), leave(0), unlock("l/1"), lock("l", 1), lock("l", 4),
		delRange("l/", "l0"), lock("l", 4), unlock("l/4"),
		// The holder's lease ends; a compaction meanwhile.
		lock("l", 1), lock("l", 2), put("other", "w"), compact(Now(0)), revoke(1), unlock("l/2"),
		// A key that is no session's, a name below another, none at all.
		put("l/foreign", "v"), lock("l", 2), lock("l/x", 4), unlock("l/x/4"), del("l/foreign"), unlock("l/2"),
		lock("", -5), lock("", 2), unlock("/-5"), get("/2"), lock("\xff", 2), get("\xff/2"),
		lock("l", 77), lock("l", 1), unlock(""), unlock("none"), everything(0), hashKV(0),
	})
}

func elections() []Call {
	changed := func(change func(*epb.LeaderKey)) *epb.LeaderKey {
		leader := candidate("e", 1)
		change(leader)
		return leader
	}
	return slices.Concat(grants(1, 2, 3), []Call{
		leaderOf("e"), observe("e"), campaign("e", 1, "one"), observe("e"), leaderOf("e"), proclaim(candidate("e", 1), "two"),
		campaign("e", 1, "two"), campaign("e", 1, "three"), campaign("e", 2, "four"), campaign("e", 2, "five"), campaign("e", 3, ""),
		// Those who wait, and others, want to lead.
		proclaim(candidate("e", 2), "not yet"), resign(candidate("e", 3)), leaderOf("e"), leave(0),
		resign(candidate("e", 1)), leaderOf("e"), proclaim(candidate("e", 1), "too late"), resign(candidate("e", 1)),
		campaign("e", 2, "six"), campaign("e", 1, "seven"), campaign("e", 3, "eight"), revoke(2), leaderOf("e"), del("e/1"), leaderOf("e"),
		delRange("e/", "e0"), leaderOf("e"), campaign("e", 1, "nine"), compact(Now(0)), put("e/1", "by hand"), leaderOf("e"),
		// Keys that are not theirs.
		proclaim(changed(func(leader *epb.LeaderKey) { leader.Lease = 3 }), "by another lease"), revoke(3), leaderOf("e"),
		proclaim(changed(func(leader *epb.LeaderKey) { leader.Rev, leader.Lease = 0, 1 }), "made by hand"), leaderOf("e"),
		proclaim(changed(func(leader *epb.LeaderKey) { leader.Lease = 77 }), "v"),
		resign(changed(func(leader *epb.LeaderKey) { leader.Lease = 77 })), leaderOf("e"),
		proclaim(nil, "v"), resign(nil), proclaim(&epb.LeaderKey{Lease: 1}, "v"), resign(&epb.LeaderKey{Lease: 1}),
		campaign("e", 77, "v"), campaign("", 1, "v"), observe(""), leaderOf(""), campaign("e/f", 1, "below"), leaderOf("e"), observe("e"),
		delRange("\x00", "\x00"), campaign("e/f", 1, "again"), everything(0), hashKV(0),
	})
}

// Those who wait do so by watches inside the server. A compaction does not touch one that has
// come to the newest revision; the random workloads keep away from the others, see clamp.
func TestWhoWaitsOutlivesCompactions(t *testing.T) {
	t.Parallel()
	pair := startPair(t)
	requireSteps(t, pair, grants(1, 2, 3)...)
	requireSteps(t, pair, lock("l", 1), lock("l", 2), campaign("l", 3, "v"))
	for _, side := range []*side{&pair.reference, &pair.subject} {
		awaitGauge(t, side, "etcd_debugging_mvcc_watcher_total", 2)
		awaitGauge(t, side, "etcd_debugging_mvcc_slow_watcher_total", 0)
	}
	requireSteps(t, pair, put("other", "v"), put("other", "w"))
	if step := pair.ask(compact(Now(0))); step.Difference != "" || step.Reference.Response == nil {
		t.Fatal(step)
	}
	for _, call := range []Call{unlock("l/1"), unlock("l/2")} {
		if step := pair.Do(call); step.Difference != "" || step.Sessions.Passed != 1 {
			t.Fatal(step)
		}
	}
}

// awaitGauge reads a metric until it has a value.
func awaitGauge(t *testing.T, side *side, name string, wanted int) {
	t.Helper()
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^%s %d$`, name, wanted))
	await(t, side, memberStatus(), func(Outcome) bool {
		response, err := http.Get("http://" + side.server.Endpoint + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && line.Match(text)
	})
}

package routes

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// route is one request for a plain route.
type route struct {
	method, path string
	peer         bool // asked of the peer listener
	secure       bool // asked by TLS
}

var routes = []route{
	{method: "GET", path: "/version"},
	{method: "POST", path: "/version"},
	{method: "DELETE", path: "/version"},
	{method: "GET", path: "/version/"},
	{method: "GET", path: "/health"},
	{method: "GET", path: "/health?serializable=true"},
	{method: "GET", path: "/health?exclude=NOSPACE"},
	{method: "GET", path: "/health?exclude=NOSPACE&exclude=CORRUPT"},
	{method: "PUT", path: "/health"},
	{method: "GET", path: "/"},
	{method: "GET", path: "/members"},
	{method: "GET", path: "/v2/keys"},
	{method: "POST", path: "/nothing/here"},
	{method: "GET", path: "/version", peer: true},
	{method: "GET", path: "/members", peer: true},
	{method: "GET", path: "/nothing", peer: true},
	{method: "GET", path: "/downgrade/enabled", peer: true},
	{method: "GET", path: "/downgrade/enabled/", peer: true},
	{method: "POST", path: "/downgrade/enabled", peer: true},
	{method: "GET", path: "/health", peer: true},
}

// comparedHeaders are those that mean something to clients.
var comparedHeaders = []string{"Content-Type", "Allow", "X-Etcd-Cluster-Id", "X-Content-Type-Options", "Location", "Access-Control-Allow-Origin"}

// answer is what is compared.
type answer struct {
	Status  int
	Headers map[string]string
	Body    string
}

func TestPlainRoutes(t *testing.T) {
	t.Parallel()
	reference, subject := startBoth(t)
	compareRoutes(t, reference, subject)

	// With an alarm up, /health says so.
	for _, server := range []*harness.Server{reference, subject} {
		raiseAlarm(t, server)
	}
	for protocol, client := range clients() {
		for _, path := range []string{"/health", "/health?exclude=NOSPACE", "/health?exclude=CORRUPT"} {
			compareRoute(t, protocol, client, reference, subject, route{method: "GET", path: path})
		}
	}
}

func startBoth(t *testing.T, flags ...string) (reference, subject *harness.Server) {
	t.Helper()
	reference = harness.Start(t, harness.Etcd37(t), harness.Options{Flags: flags})
	subject = harness.Start(t, harness.EtcoreOrReference(t), harness.Options{Flags: flags})
	return reference, subject
}

func compareRoutes(t *testing.T, reference, subject *harness.Server) {
	t.Helper()
	for protocol, client := range clients() {
		for _, route := range routes {
			if route.peer && protocol != "HTTP/1.1" {
				continue // all that a peer listener speaks in plain text
			}
			compareRoute(t, protocol, client, reference, subject, route)
		}
	}
}

func compareRoute(t *testing.T, protocol string, client *http.Client, reference, subject *harness.Server, route route) {
	t.Helper()
	// The reference speaks plain HTTP/2 on TLS ports only; we do on all.
	wanted, got := ask(t, clients()["HTTP/1.1"], reference, route), ask(t, client, subject, route)
	if strings.HasPrefix(route.path, "/version") && wanted.Status == http.StatusOK && wanted.Body != "" {
		wanted.Body, got.Body = versionsOf(t, wanted.Body), versionsOf(t, got.Body)
	}
	if difference := cmp.Diff(wanted, got); difference != "" {
		t.Errorf("%s %s %s (peer %t) (-reference +subject):\n%s", protocol, route.method, route.path, route.peer, difference)
	}
}

// versionsOf are the fields that etcd has too: ours may stand beside them.
func versionsOf(t *testing.T, body string) string {
	t.Helper()
	fields := map[string]string{}
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	known, err := json.Marshal(map[string]string{
		"etcdserver": fields["etcdserver"], "etcdcluster": fields["etcdcluster"], "storage": fields["storage"],
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(known)
}

func ask(t *testing.T, client *http.Client, server *harness.Server, route route) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	address := server.Endpoint
	if route.peer {
		address = server.Peer
	}
	scheme := "http"
	if route.secure {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, route.method, scheme+"://"+address+route.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s of %s: %v", route.method, route.path, server.Program.Name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(response, body)
}

// blanks is what protojson writes one or two of, so that nobody relies on it.
var blanks = strings.NewReplacer(`, "`, `,"`, `": `, `":`)

func answerOf(response *http.Response, body []byte) answer {
	headers := map[string]string{}
	for _, name := range comparedHeaders {
		headers[name] = response.Header.Get(name)
	}
	text := string(body)
	if headers["Content-Type"] == "application/json" {
		text = blanks.Replace(text)
	}
	return answer{Status: response.StatusCode, Headers: headers, Body: text}
}

// clients are one client for each version of HTTP.
func clients() map[string]*http.Client {
	made := map[string]*http.Client{}
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(protocols *http.Protocols) { protocols.SetHTTP1(true) },
		"HTTP/2":   func(protocols *http.Protocols) { protocols.SetUnencryptedHTTP2(true) },
	} {
		protocols := new(http.Protocols)
		set(protocols)
		made[name] = &http.Client{
			Transport:     &http.Transport{Protocols: protocols},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return made
}

func raiseAlarm(t *testing.T, server *harness.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := pb.NewMaintenanceClient(server.Connection(t)).Alarm(ctx, &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// coreSeries are what dashboards are made of.
var coreSeries = []string{
	"etcd_server_has_leader", "etcd_server_is_leader", "etcd_server_leader_changes_seen_total",
	"etcd_server_proposals_committed_total", "etcd_server_proposals_applied_total",
	"etcd_server_proposals_pending", "etcd_server_proposals_failed_total",
	"etcd_mvcc_db_total_size_in_bytes", "etcd_disk_wal_fsync_duration_seconds", "etcd_server_version",
	"process_resident_memory_bytes", "process_start_time_seconds",
}

var typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)

// Every series that both have must be of the same type.
func TestMetricTypes(t *testing.T) {
	t.Parallel()
	reference, subject := startBoth(t)
	metrics := route{method: "GET", path: "/metrics"}
	client := clients()["HTTP/1.1"]
	wanted, got := ask(t, client, reference, metrics), ask(t, client, subject, metrics)
	if got.Status != http.StatusOK || !strings.HasPrefix(got.Headers["Content-Type"], "text/plain; version=0.0.4") {
		t.Fatalf("/metrics answered %d %v", got.Status, got.Headers)
	}
	wantedTypes, gotTypes := typesOf(wanted.Body), typesOf(got.Body)
	for name, kind := range gotTypes {
		if known, ok := wantedTypes[name]; ok && known != kind {
			t.Errorf("%s is a %s, wanted a %s", name, kind, known)
		}
	}
	for _, name := range coreSeries {
		if wantedTypes[name] == "" {
			t.Errorf("%s is not of etcd", name)
		}
		if gotTypes[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
}

func typesOf(text string) map[string]string {
	types := map[string]string{}
	for _, match := range typeLine.FindAllStringSubmatch(text, -1) {
		types[match[1]] = match[2]
	}
	return types
}

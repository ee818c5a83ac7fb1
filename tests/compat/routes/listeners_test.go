package routes

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
)

// paths are asked of a listener for metrics: some of them it knows.
var paths = []string{
	"/health", "/health?serializable=true", "/livez", "/livez?verbose", "/readyz", "/livez/serializable_read",
	"/readyz/linearizable_read?verbose", "/readyz/none", "/version", "/", "/v3/kv/range", "/debug/vars",
}

// A listener of --listen-metrics-urls says how the member is, whatever host it is asked for, and does nothing else.
func TestMetricsListener(t *testing.T) {
	t.Parallel()
	compareMetricsListeners(t, "http", &http.Client{}, "--host-whitelist=127.0.0.1")
}

// With https it is as careful about clients as their own listeners.
func TestSecureMetricsListener(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	ca.Issue("server", 2, time.Hour)
	ca.Issue("client", 3, time.Hour)
	flags := ca.Mutual().Flags
	compareMetricsListeners(t, "https", clientOf(ca.Client(ca, "client")), flags...)
	server, address := startWithMetrics(t, harness.EtcoreOrReference(t), "https", flags)
	if response, err := clientOf(ca.Client(ca, "")).Get(address + "/metrics"); err == nil {
		_ = response.Body.Close()
		t.Errorf("%s answers a client without a certificate: %s", server.Program.Name, response.Status)
	}
}

func clientOf(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
}

func compareMetricsListeners(t *testing.T, scheme string, client *http.Client, flags ...string) {
	t.Helper()
	seen := func(program harness.Program) map[string]answer {
		_, address := startWithMetrics(t, program, scheme, flags)
		answers := map[string]answer{}
		for _, path := range paths {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
				answers[method+" "+path] = askAt(t, client, method, address+path)
			}
		}
		page := askAt(t, client, http.MethodGet, address+"/metrics")
		if typesOf(page.Body)["etcd_server_has_leader"] != "gauge" {
			t.Errorf("%s has no metrics at %s: %d", program.Name, address, page.Status)
		}
		return answers
	}
	wanted, got := seen(harness.Etcd37(t)), seen(harness.EtcoreOrReference(t))
	for _, request := range slices.Sorted(maps.Keys(wanted)) {
		if difference := cmp.Diff(wanted[request], got[request]); difference != "" {
			t.Errorf("%s (-reference +subject):\n%s", request, difference)
		}
	}
}

// startWithMetrics returns a server that has such a listener, and where that is.
func startWithMetrics(t *testing.T, program harness.Program, scheme string, flags []string) (*harness.Server, string) {
	t.Helper()
	address := fmt.Sprintf("%s://127.0.0.1:%d", scheme, harness.FreePort(t))
	options := harness.Options{Flags: append(slices.Clone(flags), "--listen-metrics-urls="+address)}
	return harness.Start(t, program, options), address
}

func askAt(t *testing.T, client *http.Client, method, url string) answer {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example"
	request.Header.Set("Origin", "http://a.example:80")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for _, name := range append(comparedHeaders, "Access-Control-Allow-Origin") {
		headers[name] = response.Header.Get(name)
	}
	return answer{Status: response.StatusCode, Headers: headers, Body: string(body)}
}

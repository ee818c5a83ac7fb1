package routes

import (
	"io"
	"net/http"
	"testing"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
)

// Who may ask by plain HTTP, by the name that is asked for and by the page that asks.
func TestAccess(t *testing.T) {
	t.Parallel()
	flags := []string{"--host-whitelist=a.example,::1,127.0.0.1", "--cors=http://a.example:80,https://b.example:8443"}
	reference, subject := startBoth(t, flags...)
	hosts := []string{"a.example", "a.example:2379", "A.example", "b.example", "127.0.0.1:99", "[::1]:99", "localhost", "a.example."}
	origins := []string{"", "http://a.example:80", "http://a.example", "https://b.example:8443", "*", "null"}
	for _, method := range []string{http.MethodGet, http.MethodOptions} {
		for _, path := range []string{"/health", "/metrics", "/v3/kv/range", "/nothing"} {
			for _, host := range hosts {
				compareAccess(t, reference, subject, method, path, host, origins[1])
			}
			for _, origin := range origins {
				compareAccess(t, reference, subject, method, path, "a.example", origin)
			}
		}
	}
}

func compareAccess(t *testing.T, reference, subject *harness.Server, method, path, host, origin string) {
	t.Helper()
	wanted := access(t, reference, method, path, host, origin)
	got := access(t, subject, method, path, host, origin)
	if difference := cmp.Diff(wanted, got); difference != "" {
		t.Errorf("%s %s of %q from %q (-reference +subject):\n%s", method, path, host, origin, difference)
	}
}

// access is the status, and the headers that browsers obey.
func access(t *testing.T, server *harness.Server, method, path, host, origin string) answer {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+server.Endpoint+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	if origin != "" {
		request.Header.Set("Origin", origin)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for _, name := range []string{"Origin", "Methods", "Headers"} {
		headers[name] = response.Header.Get("Access-Control-Allow-" + name)
	}
	return answer{Status: response.StatusCode, Headers: headers}
}

package gateway

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
)

// request is one request; the method is POST unless named.
type request struct {
	method, path, body string
}

func post(path, body string) request { return request{method: "POST", path: path, body: body} }

// requests are sent in this order: some need what others wrote.
var requests = []request{
	post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`),
	post("/v3/kv/put", `{"key":"Zm9v","value":"YmF6","prev_kv":true}`),
	post("/v3/kv/put", `{"key":"Zm9w","value":"YQ","prevKv":true}`),
	post("/v3/kv/range", `{"key":"Zm9v"}`),
	post("/v3/kv/range", `{"key":"Zm9v","range_end":"Zm9x"}`),
	post("/v3/kv/range", `{"key":"Zm9v","rangeEnd":"Zm9x","limit":"1","sort_order":"DESCEND","sortTarget":1}`),
	post("/v3/kv/range", `{"key":"Zm9v","count_only":true,"unknown":{"a":[1,"]"]}}`),
	post("/v3/kv/range", `{"key":"Zm9v","revision":2} trailing`),
	post("/v3/kv/range", `{"key":"Zm9v","revision":"99999"}`),
	post("/v3/kv/range", `{"key":"Zm9v","revision":2.0,"limit":1e1}`),
	post("/v3/kv/range", `{"key":"Zm9v","sort_order":9}`),
	post("/v3/kv/range", `{"key":"Zm9v","sort_order":"NO_SUCH"}`),
	post("/v3/kv/range", `{"key":null}`),
	post("/v3/kv/range", ``),
	post("/v3/kv/range", `  `),
	post("/v3/kv/range", `{}`),
	post("/v3beta/kv/range", `{"key":"Zm9v"}`),
	post("/v3alpha/kv/range", `{"key":"Zm9v"}`),
	post("/v3/kv/txn", `{"compare":[{"target":"VERSION","key":"Zm9v","version":"2"}],
		"success":[{"request_put":{"key":"eA==","value":"MQ=="}},{"requestRange":{"key":"Zm9v"}}],
		"failure":[{"request_delete_range":{"key":"Zm9v"}}]}`),
	post("/v3/kv/txn", `{"compare":[{"target":"VALUE","result":"NOT_EQUAL","key":"eA","value":"MQ"}],
		"failure":[{"request_txn":{"success":[{"request_delete_range":{"key":"eA==","prev_kv":true}}]}}]}`),
	post("/v3/kv/txn", `{"success":[{}]}`),
	post("/v3/kv/txn", `{}`),
	post("/v3/kv/deleterange", `{"key":"Zm9w","prev_kv":true}`),
	post("/v3/kv/deleterange", `{"key":"bm9uZQ=="}`),
	post("/v3/kv/compaction", `{"revision":"3"}`),
	post("/v3/kv/compaction", `{"revision":-1}`),
	post("/v3/kv/range", `{"key":"Zm9v","revision":1}`),
	post("/v3/lease/grant", `{"TTL":100,"ID":"77"}`),
	post("/v3/lease/grant", `{"TTL":"100","ID":77}`),
	post("/v3/kv/put", `{"key":"bGVhc2Vk","value":"","lease":"77"}`),
	post("/v3/kv/put", `{"key":"bGVhc2Vk","lease":78}`),
	post("/v3/lease/timetolive", `{"ID":"77","keys":true}`),
	post("/v3/kv/lease/timetolive", `{"ID":"78"}`),
	post("/v3/lease/leases", `{}`),
	post("/v3/kv/lease/leases", ``),
	post("/v3/lease/keepalive", `{"ID":"77"}`),
	post("/v3/lease/keepalive", `{"ID":"77"}{"ID":"78"}`),
	post("/v3/lease/revoke", `{"ID":"77"}`),
	post("/v3/lease/revoke", `{"ID":"77"}`),
	post("/v3/cluster/member/list", `{}`),
	post("/v3/maintenance/alarm", `{}`),
	post("/v3/maintenance/alarm", `{"action":"ACTIVATE","alarm":"CORRUPT","memberID":"5"}`),
	post("/v3/maintenance/alarm", `{"action":2,"alarm":2,"memberID":5}`),
	post("/v3/maintenance/hashkv", `{"revision":4}`),
	// What is no request.
	{method: "GET", path: "/v3/kv/range"},
	{method: "PUT", path: "/v3/kv/put", body: "{}"},
	{method: "DELETE", path: "/v3/nothing"},
	{method: "OPTIONS", path: "/v3/kv/put"},
	post("/v3/nothing", `{}`),
	post("/v3/", `{}`),
	post("/v3/kv/range/", `{}`),
	post("/v3/kv/rangestream", `{}`),
	post("/v3/kv/put", `{`),
	post("/v3/kv/put", `{"key"`),
	post("/v3/kv/put", `{"key":}`),
	post("/v3/kv/put", `{"key":"Zm9v",}`),
	post("/v3/kv/put", `{key:"Zm9v"}`),
	post("/v3/kv/put", `{"key":'Zm9v'}`),
	post("/v3/kv/put", `{"key":"Zm9v"]`),
	post("/v3/kv/put", `{"key":"\q"}`),
	post("/v3/kv/put", "{\"key\":\"a\nb\"}"),
	post("/v3/kv/put", `{"lease":-x}`),
	post("/v3/kv/put", `nul`),
	post("/v3/kv/put", `nope`),
	post("/v3/kv/put", `[]`),
	post("/v3/kv/put", `null`),
	post("/v3/kv/put", `"text"`),
	post("/v3/kv/put", `5`),
	post("/v3/kv/put", `{"key":5}`),
	post("/v3/kv/put", `{"key":"*"}`),
	post("/v3/kv/put", `{"key":"Zm9"}`),
	post("/v3/kv/put", `{"key":"Zm9v="}`),
	post("/v3/kv/put", `{"key":"_-_-"}`),
	post("/v3/kv/put", `{"key":"Zm9v","key":"Zm9v"}`),
	post("/v3/kv/put", `{"key":"Zm9v","lease":"1.5"}`),
	post("/v3/kv/put", `{"key":"Zm9v","lease":99999999999999999999}`),
	post("/v3/kv/put", `{"key":"Zm9v","prev_kv":"true"}`),
	post("/v3/kv/put", `{"key":{"a":1}}`),
	post("/v3/kv/txn", `{"compare":{}}`),
	post("/v3/kv/txn", `{"compare":[1]}`),
	post("/v3/kv/txn", `{"success":[{"request_put":{"key":"eA=="},"request_range":{"key":"eA=="}}]}`),
	post("/v3/kv/put", "{\n  \"key\": \"Zm9v\",\n  \"lease\": true}"),
	post("/v3/kv/put", `{"key":"Zm9v","value":"`+base64.StdEncoding.EncodeToString(make([]byte, 1<<20))+`"}`),
	post("/v3/kv/put", `{"key":"Zm9v","value":"`+base64.StdEncoding.EncodeToString(make([]byte, 1600<<10))+`"}`),
	post("/v3/kv/put", `{"key":"Zm9v","value":"`+base64.StdEncoding.EncodeToString(make([]byte, 2<<20))+`"}`),
}

// comparedHeaders are those that mean something to clients.
var comparedHeaders = []string{
	"Content-Type", "Grpc-Metadata-Content-Type",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
}

// answer is what is compared.
type answer struct {
	Status  int
	Headers map[string]string
	Lines   []any
}

func TestRequests(t *testing.T) {
	t.Parallel()
	reference := harness.Start(t, harness.Etcd37(t), harness.Options{})
	subject := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	for _, request := range requests {
		want, got := ask(t, reference, request), ask(t, subject, request)
		if difference := cmp.Diff(want, got); difference != "" {
			body := request.body[:min(len(request.body), 200)]
			t.Errorf("%s %s %s (-etcd +etcore):\n%s", request.method, request.path, body, difference)
		}
	}
}

func TestNoGateway(t *testing.T) {
	t.Parallel()
	options := harness.Options{Flags: []string{"--enable-grpc-gateway=false"}}
	reference := harness.Start(t, harness.Etcd37(t), options)
	subject := harness.Start(t, harness.EtcoreOrReference(t), options)
	off := post("/v3/kv/range", `{"key":"Zm9v"}`)
	if difference := cmp.Diff(ask(t, reference, off), ask(t, subject, off)); difference != "" {
		t.Error(difference)
	}
}

func ask(t *testing.T, server *harness.Server, request request) answer {
	t.Helper()
	body := strings.NewReader(request.body)
	outgoing, err := http.NewRequest(request.method, "http://"+server.Endpoint+request.path, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(outgoing)
	if err != nil {
		t.Fatalf("%s %s: %v", request.method, request.path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for _, name := range comparedHeaders {
		headers[name] = response.Header.Get(name)
	}
	return answer{Status: response.StatusCode, Headers: headers, Lines: lines(string(text))}
}

// lines are the JSON values of a body, without what differs from server to server.
func lines(text string) []any {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var values []any
	for {
		var value any
		if err := decoder.Decode(&value); err == io.EOF {
			return values
		} else if err != nil {
			return append(values, text)
		}
		values = append(values, masked(value))
	}
}

func masked(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			switch name {
			case "cluster_id", "member_id", "raft_term":
				value[name] = "some"
			case "clientURLs", "peerURLs", "TTL":
				value[name] = "some"
			case "message":
				// protojson writes one of two blanks, so that nobody relies on it.
				value[name] = strings.ReplaceAll(inner.(string), "\u00a0", " ")
			default:
				value[name] = masked(inner)
			}
		}
	case []any:
		for at, inner := range value {
			value[at] = masked(inner)
		}
	}
	return value
}

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
	// fields are header fields, as name and value in turn.
	fields []string
}

func post(path, body string) request { return request{method: "POST", path: path, body: body} }

// with is a range of a key with header fields.
func with(body string, fields ...string) request {
	return request{method: "POST", path: "/v3/kv/range", body: body, fields: fields}
}

const form = "application/x-www-form-urlencoded"

// formed is a form that names another method.
func formed(path, method, body string) request {
	return request{method: "POST", path: path, body: body, fields: []string{"Content-Type", form, "X-HTTP-Method-Override", method}}
}

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

// furtherRequests are sent behind one put: they write nothing.
var furtherRequests = []request{
	post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`),
	formed("/v3/kv/range", "GET", `{"key":"Zm9v"}`),
	formed("/v3/kv/range", "get", "key=Zm9v"),
	formed("/v3/kv/range", "DELETE", ""),
	formed("/v3/kv/range", "POST", `{"key":"Zm9v"}`),
	formed("/v3/kv/range", "post", "key=Zm9v"),
	formed("/v3/kv/range", "", `{"key":"Zm9v"}`),
	formed("/v3/kv/range", "a method", `{"key":"Zm9v"}`),
	formed("/v3/kv/range", "GET", "a=%zz"),
	formed("/v3/kv/range", "POST", "a=%4"),
	formed("/v3/kv/range", "POST", "%zz&a;b"),
	formed("/v3/kv/range?a;b", "POST", `{"key":"Zm9v"}`),
	formed("/v3/kv/range?a=%zz", "GET", ""),
	formed("/v3/kv/range", "GET", strings.Repeat("a&", 10000)),
	formed("/v3/kv/range", "POST", strings.Repeat("a", 10<<20)),
	formed("/v3/kv/range", "POST", strings.Repeat("a", 10<<20+1)),
	formed("/v3/nothing", "GET", ""),
	formed("/v3/lease/keepalive", "POST", `{"ID":"1"}`),
	formed("/v3/lease/keepalive", "GET", `{"ID":"1"}`),
	formed("/v3/lease/keepalive", "POST", "%"),
	formed("/v3/lease/leases", "POST", "a"),
	with(`{"key":"Zm9v"}`, "Content-Type", form),
	with(`{"key":"Zm9v"}`, "Content-Type", form+"; charset=utf-8", "X-HTTP-Method-Override", "GET"),
	with(`{"key":"Zm9v"}`, "Content-Type", "application/json", "X-HTTP-Method-Override", "GET"),
	with(`{"key":"Zm9v"}`, "Content-Type", "application/x-protobuf", "Accept", "application/x-protobuf"),
	with(`{"key":"Zm9v"}`, "Content-Type", ";;", "Accept", "application/json+pretty"),
	with(`{"key":"Zm9v"}`, "Content-Encoding", "gzip", "Accept", "text/html"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-Hasleader", "true", "Grpc-Metadata-Foo", "bar"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-X-Bin", "Zm9v"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-X-Bin", "Zm9"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-X-Bin", "Z"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-X-Bin", "Zm9vZ"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-X-Bin", "Zm9v="),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-X-Bin", "Zm-_"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-X-Bin", "****"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-", "x"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-Connection", "close"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-Te", "trailers"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-Content-Type", "x"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-Grpc-Timeout", "1n"),
	with(`{"key":"Zm9v"}`, "Grpc-Metadata-Token", "bad", "Authorization", "bad"),
	with(`{"key":"Zm9v"}`, "Grpc-Timeout", "1x"),
	with(`{"key":"Zm9v"}`, "Grpc-Timeout", "5S"),
	with(`{"key":"Zm9v"}`, "Grpc-Timeout", "0S"),
	with(`{"key":"Zm9v"}`, "Grpc-Timeout", "-1S"),
	with(`{"key":"Zm9v"}`, "Grpc-Timeout", "12345678901234567890S"),
	with(`{"key":"Zm9v"}`, "Te", "trailers"),
	with(`{"key":""}`, "Te", "trailers"),
	{method: "POST", path: "/v3/kv/range?pretty=true", body: `{"key":"Zm9v"}`},
	{method: "POST", path: "/v3/kv/range?key=%zz&a;b", body: `{"key":"Zm9v"}`},
	{method: "GET", path: "/v3/kv/range?key=Zm9v"},
	{method: "HEAD", path: "/v3/kv/range"},
	{method: "PATCH", path: "/v3/kv/range", body: `{"key":"Zm9v"}`},
	{method: "TRACE", path: "/v3/kv/range"},
	{method: "HEAD", path: "/v3/nothing"},
	{method: "FOO", path: "/v3/nothing"},
	post("/v3/kv%2Frange", `{"key":"Zm9v"}`),
	post("/%763/kv/range", `{"key":"Zm9v"}`),
	post("/v3%2Fkv/range", `{"key":"Zm9v"}`),
	post("/v3beta%2Fkv/range", `{"key":"Zm9v"}`),
	post("/v3/kv/range", `{"key":"Zm9v"}`+strings.Repeat(" ", 100)+"{"),
	post("/v3/kv/range", "\n\n{\"key\":\"Zm9v\"}\n"),
	post("/v3/kv/range", "\ufeff{\"key\":\"Zm9v\"}"),
	post("/v3/kv/range", `{"limit":" 1"}`),
	post("/v3/kv/range", `{"limit":1.5}`),
	post("/v3/kv/range", `{"limit":01}`),
	post("/v3/kv/range", `{"limit":1e999}`),
	post("/v3/kv/range", `{"KEY":"Zm9v"}`),
	post("/v3/kv/range", `{"k\u0065y":"Zm9v"}`),
	post("/v3/kv/range", `{"key":"Zm9v","range_end":"Zm9w","rangeEnd":"Zm9w"}`),
	post("/v3/kv/range", `{"serializable":1}`),
	post("/v3/kv/range", `{"sort_order":"ascend"}`),
	post("/v3/kv/range", `{"x":[1,]}`),
	post("/v3/kv/range", `{"a":1 "b":2}`),
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
	compare(t, requests)
}

func TestFurtherRequests(t *testing.T) {
	t.Parallel()
	compare(t, furtherRequests)
}

func compare(t *testing.T, requests []request) {
	t.Helper()
	reference := harness.Start(t, harness.Etcd37(t), harness.Options{})
	subject := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	for _, request := range requests {
		want, got := ask(t, reference, request), ask(t, subject, request)
		if difference := cmp.Diff(want, got); difference != "" {
			body := request.body[:min(len(request.body), 200)]
			t.Errorf("%s %s %s %q (-etcd +etcore):\n%s", request.method, request.path, body, request.fields, difference)
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
	for at := 0; at < len(request.fields); at += 2 {
		outgoing.Header[request.fields[at]] = []string{request.fields[at+1]}
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

package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// gatewayPaths are the JSON gateway's paths of the methods that have one.
var gatewayPaths = map[string]string{
	methodRange:       "/v3/kv/range",
	methodPut:         "/v3/kv/put",
	methodDeleteRange: "/v3/kv/deleterange",
	methodTxn:         "/v3/kv/txn",
	methodCompact:     "/v3/kv/compaction",
	methodLeaseGrant:  "/v3/lease/grant",
	methodLeaseRevoke: "/v3/lease/revoke",
	methodLeaseTTL:    "/v3/lease/timetolive",
	methodLeases:      "/v3/lease/leases",
	methodKeepAlive:   "/v3/lease/keepalive",
	methodMemberList:  "/v3/cluster/member/list",
	methodAlarm:       "/v3/maintenance/alarm",
	methodStatus:      "/v3/maintenance/status",
	methodHash:        "/v3/maintenance/hash",
	methodHashKV:      "/v3/maintenance/hashkv",
	methodMoveLeader:  "/v3/maintenance/transfer-leadership",
	methodDefragment:  "/v3/maintenance/defragment",
	methodLock:        "/v3/lock/lock",
	methodUnlock:      "/v3/lock/unlock",
	methodCampaign:    "/v3/election/campaign",
	methodProclaim:    "/v3/election/proclaim",
	methodLeader:      "/v3/election/leader",
	methodObserve:     "/v3/election/observe",
	methodResign:      "/v3/election/resign",
}

// jsonAnswer is a response of the gateway, without what the two servers may
// differ in: the message itself is compared as the message it stands for.
type jsonAnswer struct {
	HTTPStatus int
	Headers    [2]string
	// Body is that of an error. One with a message has to be written as Go
	// writes that message, see Odd.
	Body string
	// Odd is a body that is not: another order, a zero that is there, a number
	// that is no string, a field that is unknown.
	Odd string
}

// postJSON asks the gateway.
func (c Call) postJSON(ctx context.Context, client *http.Client, endpoint string) (*http.Response, error) {
	// Names as in the protocol, and names in lowerCamelCase: both are taken.
	protoNames := proto.Size(c.Request)%2 == 0
	body, err := protojson.MarshalOptions{UseProtoNames: protoNames}.Marshal(c.Request)
	if err != nil {
		return nil, err
	}
	url := "http://" + endpoint + gatewayPaths[c.Method]
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return client.Do(request)
}

// invokeJSON makes a unary call, or a keep-alive, through the gateway.
func (c Call) invokeJSON(ctx context.Context, client *http.Client, endpoint string) Outcome {
	response, err := c.postJSON(ctx, client, endpoint)
	if err != nil {
		return Outcome{Status: status.New(codes.Unavailable, err.Error())}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Outcome{Status: status.New(codes.Unavailable, err.Error())}
	}
	answer := newJSONAnswer(response)
	if response.StatusCode != http.StatusOK {
		return answer.failure(body)
	}
	if c.Method == methodKeepAlive {
		body = answer.onlyResult(body)
	}
	return answer.message(body, newResponse(c.Method))
}

func newJSONAnswer(response *http.Response) *jsonAnswer {
	return &jsonAnswer{
		HTTPStatus: response.StatusCode,
		Headers:    [2]string{response.Header.Get("Content-Type"), response.Header.Get("Grpc-Metadata-Content-Type")},
	}
}

func (a *jsonAnswer) failure(body []byte) Outcome {
	a.Body = plainBlanks(compacted(body))
	var told struct {
		Code    codes.Code
		Message string
	}
	if err := json.Unmarshal(body, &told); err != nil || told.Code == codes.OK {
		a.Odd = string(body)
		told.Code = codes.Unknown
	}
	return Outcome{Status: status.New(told.Code, told.Message), JSON: a}
}

func (a *jsonAnswer) message(body []byte, response proto.Message) Outcome {
	if err := protojson.Unmarshal(body, response); err != nil {
		a.Odd = fmt.Sprintf("%s: %v", body, err)
	}
	wanted, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(response)
	if a.Odd == "" && (err != nil || compacted(wanted) != compacted(body)) {
		a.Odd = string(body)
	}
	return Outcome{Response: response, Status: status.New(codes.OK, ""), JSON: a}
}

// onlyResult unpacks a stream of one message, or one line of a stream.
func (a *jsonAnswer) onlyResult(body []byte) []byte {
	var line struct{ Result json.RawMessage }
	if err := json.Unmarshal(body, &line); err != nil || line.Result == nil {
		a.Odd = string(body)
		return []byte("{}")
	}
	return line.Result
}

// compacted is JSON without the blanks in which Go's writer varies.
func compacted(text []byte) string {
	var short bytes.Buffer
	if err := json.Compact(&short, text); err != nil {
		return string(text)
	}
	return strings.TrimSpace(short.String())
}

// compareJSON describes how two bodies differ beyond the messages in them.
func compareJSON(reference, subject *jsonAnswer) string {
	switch {
	case reference == nil || subject == nil:
		return ""
	case reference.Odd != "":
		return "-written unlike Go's: " + reference.Odd
	case *reference != *subject:
		return fmt.Sprintf("-%+v\n+%+v", *reference, *subject)
	}
	return ""
}

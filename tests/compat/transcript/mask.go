package transcript

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"etcore/tests/compat/differential"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// What two transcripts may differ in: the exempt fields of the responses
// (package differential) as etcdctl prints them, the address of the server,
// times, and what a Go process makes up for its own log lines.

type textMask struct {
	form    *regexp.Regexp
	replace string
}

var maskEverywhere = []textMask{
	{regexp.MustCompile(`"raft_term":[1-9]\d*`), `"raft_term":N`},
	{regexp.MustCompile(`"RaftTerm" : [1-9]\d*`), `"RaftTerm" : N`},
	{regexp.MustCompile(`"ts":"[^"]*"`), `"ts":"T"`},
	{regexp.MustCompile(`etcd-endpoints://0x[0-9a-f]+`), `etcd-endpoints://POINTER`},
	{regexp.MustCompile(`LocalAddr: '[^']*'`), `LocalAddr: 'ADDRESS'`},
}

var (
	maskHealth = []textMask{
		{regexp.MustCompile(`(?m)took = [0-9.]+[µnm]?s$`), `took = T`},
		{regexp.MustCompile(`"took":"[0-9.]+[µnm]?s"`), `"took":"T"`},
		{regexp.MustCompile(`"Took" : [0-9.]+[µnm]?s`), `"Took" : T`},
		{regexp.MustCompile(`([│|]) *[0-9.]+[µnm]?s *([│|])`), `$1 T $2`},
	}
	maskStatus = []textMask{
		{regexp.MustCompile(`"(raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":[1-9]\d*`), `"$1":N`},
		{regexp.MustCompile(`"(RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : [1-9]\d*`), `"$1" : N`},
	}
	maskTimeToLive = []textMask{
		{regexp.MustCompile(`remaining\(\d+s\)`), `remaining(T)`},
		{regexp.MustCompile(`"ttl":\d+`), `"ttl":T`},
		{regexp.MustCompile(`"TTL" : \d+`), `"TTL" : T`},
	}
	tableLine  = regexp.MustCompile(`─+|-{3,}`)
	tableBlank = regexp.MustCompile(` +`)
)

// statusColumns are the exempt columns of endpoint status: sizes, the share
// that is not in use, raft's term and indexes.
var statusColumns = []int{4, 5, 6, 10, 11, 12}

func (s *session) maskText(command command, text string) string {
	masks := slices.Clone(maskEverywhere)
	switch {
	case command.starts("endpoint", "health"):
		masks = append(masks, maskHealth...)
	case command.starts("endpoint", "status"):
		text = maskColumns(text, s.endpoint)
		masks = append(masks, maskStatus...)
	case command.starts("lease", "timetolive"):
		masks = append(masks, maskTimeToLive...)
	}
	for _, mask := range masks {
		text = mask.form.ReplaceAllString(text, mask.replace)
	}
	if command.starts("endpoint") && command.format() == "table" {
		text = tableBlank.ReplaceAllString(tableLine.ReplaceAllString(text, "-"), " ")
	}
	return s.leases.remove(strings.ReplaceAll(text, s.endpoint, "ENDPOINT"))
}

// maskColumns blanks the exempt columns in the lines about an endpoint.
func maskColumns(text, endpoint string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		for separator, firstColumn := range map[string]int{", ": 0, "│": 1, "|": 1} {
			cells := strings.Split(line, separator)
			if len(cells) < 16 || strings.TrimSpace(cells[firstColumn]) != endpoint {
				continue
			}
			for _, column := range statusColumns {
				cells[column+firstColumn] = " N "
			}
			lines[i] = strings.Join(cells, separator)
		}
	}
	return strings.Join(lines, "\n")
}

// maskOutput masks stdout, which may be the bytes of a message.
func (s *session) maskOutput(command command, output []byte) string {
	message := command.message()
	if command.format() != "protobuf" || message == nil || len(output) == 0 {
		return s.maskText(command, string(output))
	}
	if err := proto.Unmarshal(output, message); err != nil {
		return s.maskText(command, string(output))
	}
	differential.Mask(message)
	text := prototext.MarshalOptions{Multiline: true}.Format(message)
	return s.leases.remove(strings.ReplaceAll(text, ":  ", ": "))
}

// message is what a command prints as protobuf.
func (c command) message() proto.Message {
	switch c.words[0] {
	case "get":
		return new(pb.RangeResponse)
	case "put":
		return new(pb.PutResponse)
	case "del":
		return new(pb.DeleteRangeResponse)
	case "txn":
		return new(pb.TxnResponse)
	case "member":
		return new(pb.MemberListResponse)
	case "lease": // all of them print the header alone
		return new(pb.ResponseHeader)
	default:
		return nil
	}
}

// leaseIDs are the leases that a server named, in the order of their grants.
type leaseIDs []int64

var grantForms = []struct {
	form *regexp.Regexp
	base int
}{
	{regexp.MustCompile(`lease ([0-9a-f]{16}) granted`), 16},
	{regexp.MustCompile(`"ID":(\d+)`), 10},
	{regexp.MustCompile(`"ID" : (\d+)`), 10},
}

// learn takes the id out of the output of a grant.
func (l *leaseIDs) learn(output string) {
	for _, grant := range grantForms {
		if match := grant.form.FindStringSubmatch(output); match != nil {
			if id, err := strconv.ParseInt(match[1], grant.base, 64); err == nil {
				*l = append(*l, id)
				return
			}
		}
	}
}

// insert replaces $lease1, $lease2 … by ids as etcdctl reads them.
func (l leaseIDs) insert(word string) string {
	for i := len(l) - 1; i >= 0; i-- {
		word = strings.ReplaceAll(word, fmt.Sprintf("$lease%d", i+1), fmt.Sprintf("%x", l[i]))
	}
	return word
}

// remove replaces the ids, in every form they are printed in, by names.
func (l leaseIDs) remove(text string) string {
	for i, id := range l {
		name := fmt.Sprintf("LEASE%d", i+1)
		text = strings.NewReplacer(fmt.Sprintf("%016x", id), name, fmt.Sprint(id), name).Replace(text)
	}
	return text
}

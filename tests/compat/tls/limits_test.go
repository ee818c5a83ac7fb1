package tls

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"
)

// handshakeTimeout is how long a handshake may take.
const handshakeTimeout = 10 * time.Second

func own() harness.Options {
	return harness.Options{OnlyTLS: true, Flags: []string{"--auto-tls"}}
}

// insecure believes every server.
func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// More clients than may be in a handshake begin one and do not go on; good ones come through beside them.
func TestUnfinishedHandshakesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const count = 1500
	both(t, own, func(t *testing.T, server *harness.Server) {
		first, err := net.Dial("tcp", server.Endpoint)
		check(t, err)
		defer first.Close()
		hello := []byte{0x16, 3, 1, 2, 0, 1}
		_, err = first.Write(hello)
		check(t, err)
		for number := range count {
			connection, err := net.Dial("tcp", server.Endpoint)
			check(t, err)
			defer connection.Close()
			_, err = connection.Write(hello)
			check(t, err)
			if number%300 == 0 {
				_, err := get(server, insecure(), number%600 == 0)
				check(t, err)
			}
		}
		_, err = get(server, insecure(), true)
		check(t, err)
	})
}

// A handshake that stands still is ended, by etcore in time; etcd keeps it.
func TestStalledHandshakesEnd(t *testing.T) {
	t.Parallel()
	program := harness.EtcoreOrReference(t)
	if program.Name == harness.Etcd37(t).Name {
		t.Skip("etcd keeps them")
	}
	server := harness.Start(t, program, own())
	for _, said := range [][]byte{{0x16}, {0x16, 3, 1, 2, 0, 1}, {}} {
		begun := time.Now()
		connection, err := net.Dial("tcp", server.Endpoint)
		check(t, err)
		defer connection.Close()
		_, err = connection.Write(said)
		check(t, err)
		t.Run("", func(t *testing.T) {
			check(t, connection.SetReadDeadline(begun.Add(3*handshakeTimeout)))
			_, err := io.ReadAll(connection)
			check(t, err)
			if took := time.Since(begun); took < handshakeTimeout-time.Second {
				t.Errorf("ended after %s", took)
			}
			_ = connection.Close()
		})
	}
}

// HTTP/2 demands a suite; where a list lacks it neither program starts.
func TestAListWithoutTheSuiteOfHTTP2(t *testing.T) {
	t.Parallel()
	const text = "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher " +
		"(need at least one of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)"
	for _, program := range []harness.Program{harness.Etcd37(t), harness.EtcoreOrReference(t)} {
		options := own()
		options.Scratch = t.TempDir()
		options.Flags = append(options.Flags, "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")
		if said := harness.Refusal(t, program, options); !strings.Contains(said, text) {
			t.Errorf("%s: %s", program.Name, said)
		}
	}
}

// Plain text where TLS is spoken, and TLS where it is not, cost their connection and no more.
func TestTheWrongSide(t *testing.T) {
	t.Parallel()
	both(t, own, func(t *testing.T, server *harness.Server) {
		for _, said := range []string{
			"GET /version HTTP/1.1\r\nHost: a\r\n\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"\x16\x03\x01\x00\x05hello",
			"\x15\x03\x01\x00\x02\x02\x28",
			"\x00\x00\x00\x00\x00",
		} {
			connection, err := net.Dial("tcp", server.Endpoint)
			check(t, err)
			_, err = io.WriteString(connection, said)
			check(t, err)
			check(t, connection.SetReadDeadline(time.Now().Add(handshakeTimeout/2)))
			answer, err := io.ReadAll(connection)
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Errorf("%q is waited for", said)
			}
			if strings.Contains(string(answer), "200 OK") {
				t.Errorf("%q is answered: %q", said, answer)
			}
			_ = connection.Close()
		}
		_, err := get(server, insecure(), true)
		check(t, err)
	})
	both(t, func() harness.Options { return harness.Options{} }, func(t *testing.T, server *harness.Server) {
		for _, http2 := range []bool{false, true} {
			if _, err := get(server, insecure(), http2); err == nil {
				t.Error("TLS on a plain port is answered")
			}
		}
		response, err := http.Get("http://" + server.Endpoint + "/version")
		check(t, err)
		_ = response.Body.Close()
	})
}

// A client's certificate that says something else than it should.
func TestCertificatesThatAreNone(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	ca.Issue("server", 2, time.Hour)
	ca.Issue("good", 3, time.Hour)
	// Signed by nobody but itself.
	self := harness.NewAuthority(t, "good").Own()
	both(t, func() harness.Options { return ca.Mutual() }, func(t *testing.T, server *harness.Server) {
		config := ca.Client(ca, "")
		config.Certificates = []tls.Certificate{self}
		if _, err := get(server, config, true); err == nil {
			t.Error("a certificate that signed itself is accepted")
		}
		// The right certificate with another's key.
		config = ca.Client(ca, "good")
		config.Certificates[0].PrivateKey = self.PrivateKey
		if _, err := get(server, config, true); err == nil {
			t.Error("a certificate without its key is accepted")
		}
		_, err := get(server, ca.Client(ca, "good"), true)
		check(t, err)
	})
}

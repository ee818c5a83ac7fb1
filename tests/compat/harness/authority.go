package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs the certificates of one test.
type Authority struct {
	t      testing.TB
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// NewAuthority makes an authority whose files lie in a folder of the test.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, folder: t.TempDir()}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	check(t, err)
	a.cert, err = x509.ParseCertificate(der)
	check(t, err)
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

// Issue writes a certificate, valid for so long from now, and its key.
func (a *Authority) Issue(name string, serial int64, valid time.Duration) {
	a.t.Helper()
	a.IssueFor(name, serial, valid, "localhost")
}

// IssueFor is Issue for hosts of these names.
func (a *Authority) IssueFor(name string, serial int64, valid time.Duration, hosts ...string) {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-2 * time.Hour),
		NotAfter:     time.Now().Add(valid),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     hosts,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	check(a.t, err)
	a.write(name+".pem", "CERTIFICATE", der)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(a.t, err)
	a.write(name+"-key.pem", "EC PRIVATE KEY", keyDER)
}

// Revoke writes a list with one serial number.
func (a *Authority) Revoke(serial int64) string {
	a.t.Helper()
	list := &x509.RevocationList{
		Number:     big.NewInt(1),
		ThisUpdate: time.Now(),
		NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()},
		},
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	check(a.t, err)
	path := a.Path("crl.der")
	check(a.t, os.WriteFile(path, der, 0o600))
	return path
}

// Client trusts the authority and shows a certificate of `by`, if named.
func (a *Authority) Client(by *Authority, name string) *tls.Config {
	a.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(by.Path(name+".pem"), by.Path(name+"-key.pem"))
		check(a.t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// Own is the authority's certificate as if it were a client's: signed by nobody but itself.
func (a *Authority) Own() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
}

// Path is where a file of the authority lies.
func (a *Authority) Path(name string) string { return filepath.Join(a.folder, name) }

func (a *Authority) write(name, kind string, der []byte) {
	a.t.Helper()
	block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	check(a.t, os.WriteFile(a.Path(name), block, 0o600))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Mutual are the options of a listener that speaks TLS with those who show a certificate of
// the authority.
func (a *Authority) Mutual(flags ...string) Options {
	return Options{TLS: true, Flags: append([]string{
		"--cert-file=" + a.Path("server.pem"),
		"--key-file=" + a.Path("server-key.pem"),
		"--trusted-ca-file=" + a.Path("ca.pem"),
		"--client-cert-auth",
	}, flags...)}
}

// Package tls holds etcore's TLS listeners against the real etcdctl, clientv3 and
// net/http: mutual TLS, certificates that are refused, reload, sockets in the file
// system, and plain text where TLS is expected.
package tls

// Package ctl runs those commands of the real etcdctl that go on for a while, or act on the
// member, against etcore and against the real etcd, whose behaviour so is what each test
// expects: in plain text and over mutual TLS. What the others print is compared by package
// transcript.
package ctl

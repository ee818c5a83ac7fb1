// Package recipes runs what is built of etcd's calls against etcore, with the real Go
// packages: locks, elections and transactional memory, namespaces, mirrors, leasing,
// endpoints, and the calls of Kubernetes. Each runs in plain text and over mutual TLS.
package recipes

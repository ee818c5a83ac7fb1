// Package routes compares the plain HTTP routes of two servers, over HTTP/1.1
// and over HTTP/2.
package routes

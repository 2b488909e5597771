// Package identity holds who a node and a person are: keys, credentials, trust, and the TLS that carries them.
//
// TLS lives here only. A credential is an X.509 certificate issued by the network's own CA; nothing else is trusted, and host
// names mean nothing: a peer is what its [Subject] says. A Subject is written as URI names in the certificate, in this order:
//
//	dengbei:network:<network>   the name of the network
//	dengbei:code:<code>         six digits of GB/T 2260
//	dengbei:serial:<n>          decimal enrolment serial, 1 or more, never reused
//	dengbei:account:<account>   a person's account; absent for a centre
//	dengbei:role:<role>         once per role, in the order of the Role constants
//
// Any other name, order or spelling is refused. All TLS is 1.3 without session tickets, so every connection is verified anew.
//
// Private keys are files of mode 0600; a file that others may read is refused, not repaired. Written files survive power loss.
package identity

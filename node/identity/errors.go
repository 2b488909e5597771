package identity

import "errors"

var (
	// ErrSubject is returned when a subject, or the names in a certificate, break the form in the package comment.
	ErrSubject = errors.New("malformed subject")

	// ErrFileMode is returned when a file with a private key may be read or written by others than its owner.
	ErrFileMode = errors.New("file of a private key is open to others")

	// ErrUntrusted is returned when a certificate was not issued by the network's CA, is out of date or of another network.
	ErrUntrusted = errors.New("certificate is not trusted")

	// ErrUnexpectedPeer is returned when a trusted peer is not the one that was asked for.
	ErrUnexpectedPeer = errors.New("unexpected peer")

	// ErrNotAllowed is returned when a protocol is not open to the peer's credential.
	ErrNotAllowed = errors.New("credential does not open this protocol")

	// ErrRequest is returned when a certificate request cannot be signed as it stands.
	ErrRequest = errors.New("unacceptable certificate request")

	// ErrToken is returned when text is not an enrolment token.
	ErrToken = errors.New("malformed enrolment token")

	// ErrProxy is returned when the proxy did not open the connection.
	ErrProxy = errors.New("proxy refused the connection")

	// ErrSealed is returned when sealed bytes cannot be opened with the keys at hand.
	ErrSealed = errors.New("sealed content cannot be opened")

	// ErrTooFewShares is returned when fewer shares are present than the threshold.
	ErrTooFewShares = errors.New("too few shares")

	// ErrForeignShare is returned when shares of different splits are mixed.
	ErrForeignShare = errors.New("share of another secret")

	// ErrDuplicateShare is returned when one share is given twice.
	ErrDuplicateShare = errors.New("share given twice")

	// ErrShare is returned when a share is malformed, or the shares together do not give the secret that was split.
	ErrShare = errors.New("damaged share")
)

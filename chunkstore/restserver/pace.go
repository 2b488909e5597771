package restserver

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// stallAfter is how long a client may send or take nothing.
	stallAfter = 2 * time.Minute

	// A body may take paceGrace and then its size at slowestBytes a second: a slower client is as good as gone, and holds
	// a file and a connection.
	paceGrace    = 5 * time.Minute
	slowestBytes = 8 << 10
)

// pace moves a request's deadlines on while its client keeps up.
type pace struct {
	control *http.ResponseController
	end     time.Time // however steadily it trickles
}

func newPace(w http.ResponseWriter) *pace {
	return &pace{control: http.NewResponseController(w)}
}

// allow sets the end for a body of n bytes.
func (p *pace) allow(n int64) {
	p.end = time.Now().Add(paceGrace + time.Duration(n/slowestBytes)*time.Second)
}

func (p *pace) deadline() time.Time {
	d := time.Now().Add(stallAfter)
	if d.After(p.end) {
		return p.end
	}
	return d
}

// reading gives the client time for the next bytes of its body. What holds no connection needs no deadline.
func (p *pace) reading() { _ = p.control.SetReadDeadline(p.deadline()) }

// writing gives the client time to take the next bytes.
func (p *pace) writing() { _ = p.control.SetWriteDeadline(p.deadline()) }

// done takes the deadline for writing off: the connection's next answer has its own.
func (p *pace) done() { _ = p.control.SetWriteDeadline(time.Time{}) }

// body reads a request's body, no longer than most and no slower than allowed. Its errors are [errBody] or [ErrTooLarge].
type body struct {
	r    io.Reader
	pace *pace
	left int64
	most int64
}

func newBody(r *http.Request, p *pace, most int64) *body {
	n := r.ContentLength
	if n < 0 || n > most {
		n = most
	}
	p.allow(n)
	return &body{r.Body, p, most, most}
}

// Read implements [io.Reader].
func (b *body) Read(buf []byte) (int, error) {
	b.pace.reading()
	if int64(len(buf)) > b.left+1 {
		buf = buf[:b.left+1]
	}
	n, err := b.r.Read(buf)
	if int64(n) > b.left {
		return 0, fmt.Errorf("more than %d bytes: %w", b.most, ErrTooLarge)
	}
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errBody, err)
	}
	return n, err
}

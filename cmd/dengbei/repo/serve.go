package repo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/restserver"
	"dengbei/cmd/dengbei/term"
)

// lastRequests is how long requests may go on after the server was told to stop.
const lastRequests = 30 * time.Second

// serving is the options of the server.
type serving struct {
	path, listen string
	tls          bool
	cert, key    string
	htpasswd     string
	appendOnly   bool
	privateRepos bool
	maxSize      int64
	noAuth       bool
}

func (r *commands) serveCommand() *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "serve repositories to stock restic over the REST protocol",
		Long: `Serve the repositories below a directory over restic's REST protocol, as restic's rest-server does and with its options:

    restic -r rest:https://user:password@host:8000/user/ backup …

Names and passwords come from an htpasswd file of bcrypt hashes (htpasswd -B), which is read again when it changes. Passwords
cross the network, so they need TLS, except on this machine. Repositories that belong to a node are served for reading only.`,
		Args: cobra.NoArgs,
		RunE: r.run(func(cmd *cobra.Command, _ []string) error { return r.serve(cmd.Context(), s) }),
	}
	f := cmd.Flags()
	f.StringVar(&s.path, "path", "", "`directory` of the repositories (required)")
	f.StringVar(&s.listen, "listen", "127.0.0.1:8000", "`address` to listen on")
	f.BoolVar(&s.tls, "tls", false, "serve over TLS, with public_key and private_key in --path unless told otherwise")
	f.StringVar(&s.cert, "tls-cert", "", "`file` with the certificate; implies --tls")
	f.StringVar(&s.key, "tls-key", "", "`file` with its key; implies --tls")
	f.StringVar(&s.htpasswd, "htpasswd-file", "", "`file` of users (default: .htpasswd in --path)")
	f.BoolVar(&s.appendOnly, "append-only", false, "let nothing be deleted but locks")
	f.BoolVar(&s.privateRepos, "private-repos", false, "give each user what lies below the directory of his name, and nothing else")
	f.Int64Var(&s.maxSize, "max-size", 0, "most `bytes` that one repository may take (default: no limit)")
	f.BoolVar(&s.noAuth, "no-auth", false, "let everybody in")
	return cmd
}

// serve serves until ctx ends.
func (r *commands) serve(ctx context.Context, s serving) error {
	if err := s.check(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(r.Err, nil))
	config := restserver.Config{Path: s.path, PrivateRepos: s.privateRepos, AppendOnly: s.appendOnly, MaxBytes: s.maxSize, Log: log}
	if !s.noAuth {
		users, err := restserver.OpenUsers(s.htpasswd, log)
		if err != nil {
			return err
		}
		config.Users = users
	}
	handler, err := restserver.New(config)
	if err != nil {
		return err
	}
	server := restserver.HTTPServer(handler, log)
	if s.tls {
		// Read now, so that a wrong file is an error and not a server that nobody reaches.
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if s.tls {
		scheme = "https"
	}
	v := struct {
		MessageType string `json:"message_type"`
		URL         string `json:"url"`
	}{"listening", scheme + "://" + l.Addr().String() + "/"}
	if r.JSON {
		err = r.Event(v)
	} else {
		_, err = fmt.Fprintf(r.Out, "serving %s at %s\n", term.Safe(s.path), v.URL)
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return serveUntil(ctx, server, l, s.tls)
}

// check completes the options and refuses those that cannot be meant.
func (s *serving) check() error {
	if s.path == "" {
		return term.Usagef("which directory? Give --path DIR")
	}
	if s.maxSize < 0 {
		return term.Usagef("--max-size %d: want a number of bytes", s.maxSize)
	}
	if s.noAuth && (s.privateRepos || s.htpasswd != "") {
		return term.Usagef("--no-auth leaves no users for --private-repos and --htpasswd-file")
	}
	s.tls = s.tls || s.cert != "" || s.key != ""
	if s.tls && s.cert == "" {
		s.cert = filepath.Join(s.path, "public_key")
	}
	if s.tls && s.key == "" {
		s.key = filepath.Join(s.path, "private_key")
	}
	if s.htpasswd == "" {
		s.htpasswd = filepath.Join(s.path, ".htpasswd")
	}
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil {
		return term.Usagef("--listen %q: want ADDRESS:PORT", s.listen)
	}
	if ip := net.ParseIP(host); !s.tls && !s.noAuth && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return term.Usagef("--listen %s would send passwords in clear: give --tls-cert and --tls-key", s.listen)
	}
	return nil
}

// serveUntil serves until ctx ends, and then lets the requests that go on come to their end.
func serveUntil(ctx context.Context, server *http.Server, l net.Listener, secure bool) error {
	done := make(chan error, 1)
	go func() {
		if secure {
			done <- server.ServeTLS(l, "", "")
		} else {
			done <- server.Serve(l)
		}
	}()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		server.Close()
	}
	<-done
	return nil
}

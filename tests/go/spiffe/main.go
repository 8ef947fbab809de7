// What go-spiffe, the reference client of SPIFFE, makes of our endpoints. One command a question; each answer
// is a line of JSON on standard output, and an error is a line on standard error and exit code 1.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const patience = 60 * time.Second

var commands = map[string]func(context.Context, []string) error{
	"watch":    watch,
	"jwt":      fetchJWT,
	"validate": validateJWT,
	"mtls":     mutualTLS,
	"bundle":   fetchBundle,
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fail(errors.New("name a command: watch, jwt, validate, mtls, bundle"))
	}
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func say(value any) {
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		fail(err)
	}
}

type svid struct {
	ID     string `json:"id"`
	Hint   string `json:"hint"`
	Serial string `json:"serial"`
	Issuer string `json:"issuer"`
	Chain  int    `json:"chain"`
}

// watcher says each complete state of the Workload API, and stops after so many.
type watcher struct {
	left   int
	cancel context.CancelFunc
}

func (w *watcher) OnX509ContextUpdate(state *workloadapi.X509Context) {
	svids := []svid{}
	for _, each := range state.SVIDs {
		leaf := each.Certificates[0]
		svids = append(svids, svid{each.ID.String(), each.Hint, leaf.SerialNumber.String(), leaf.Issuer.String(), len(each.Certificates)})
	}
	roots := map[string]int{}
	for _, bundle := range state.Bundles.Bundles() {
		roots[bundle.TrustDomain().Name()] = len(bundle.X509Authorities())
	}
	say(map[string]any{"svids": svids, "roots": roots})
	if w.left--; w.left <= 0 {
		w.cancel()
	}
}

func (w *watcher) OnX509ContextWatchError(err error) {
	if !errors.Is(err, context.Canceled) && w.left > 0 {
		fmt.Fprintln(os.Stderr, "watch:", err)
	}
}

// watch COUNT: the X.509 context, as often as it changes.
func watch(ctx context.Context, args []string) error {
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states := &watcher{count, cancel}
	err = workloadapi.WatchX509Context(ctx, states)
	// It is the watcher that ends it, which comes back as a status of gRPC.
	if states.left <= 0 {
		return nil
	}
	return err
}

// jwt AUDIENCE: a JWT-SVID, verified by go-spiffe with the JWT bundles of the same socket.
func fetchJWT(ctx context.Context, args []string) error {
	source, err := workloadapi.NewJWTSource(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	fetched, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: args[0]})
	if err != nil {
		return err
	}
	verified, err := jwtsvid.ParseAndValidate(fetched.Marshal(), source, []string{args[0]})
	if err != nil {
		return err
	}
	say(map[string]any{"id": verified.ID.String(), "audience": verified.Audience, "token": verified.Marshal(), "claims": verified.Claims})
	return nil
}

// validate AUDIENCE TOKEN: what our ValidateJWTSVID says.
func validateJWT(ctx context.Context, args []string) error {
	verified, err := workloadapi.ValidateJWTSVID(ctx, args[1], args[0])
	if err != nil {
		return err
	}
	say(map[string]any{"id": verified.ID.String(), "claims": verified.Claims})
	return nil
}

// mtls: a server and a client of this process greet each other, both with SVIDs and bundles of the socket.
func mutualTLS(ctx context.Context, _ []string) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	own, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(own.ID)))
	if err != nil {
		return err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() { served <- greet(listener) }()
	connection, err := tls.Dial("tcp", listener.Addr().String(), tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(own.ID)))
	if err != nil {
		return err
	}
	defer connection.Close()
	greeting, err := io.ReadAll(connection)
	if err != nil {
		return err
	}
	say(map[string]any{"id": own.ID.String(), "greeting": string(greeting)})
	return <-served
}

func greet(listener net.Listener) error {
	connection, err := listener.Accept()
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.Write([]byte("hello"))
	return err
}

// bundle TRUST_DOMAIN URL web CA_FILE | bundle TRUST_DOMAIN URL spiffe ENDPOINT_ID BUNDLE_FILE
func fetchBundle(ctx context.Context, args []string) error {
	domain, err := spiffeid.TrustDomainFromString(args[0])
	if err != nil {
		return err
	}
	option, err := bundleOption(domain, args[2:])
	if err != nil {
		return err
	}
	bundle, err := federation.FetchBundle(ctx, domain, args[1], option)
	if err != nil {
		return err
	}
	sequence, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	say(map[string]any{
		"trust_domain": bundle.TrustDomain().Name(), "roots": len(bundle.X509Authorities()),
		"jwt_keys": len(bundle.JWTAuthorities()), "sequence": sequence, "refresh_hint": hint.Seconds(),
	})
	return nil
}

func bundleOption(domain spiffeid.TrustDomain, args []string) (federation.FetchOption, error) {
	if args[0] == "web" {
		pem, err := os.ReadFile(args[1])
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		return federation.WithWebPKIRoots(roots), nil
	}
	endpoint, err := spiffeid.FromString(args[1])
	if err != nil {
		return nil, err
	}
	known, err := spiffebundle.Load(domain, args[2])
	if err != nil {
		return nil, err
	}
	return federation.WithSPIFFEAuth(known, endpoint), nil
}

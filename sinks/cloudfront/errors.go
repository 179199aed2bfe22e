package cloudfront

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Error codes: those of CreateInvalidation, and what every service of AWS says
// of credentials, clocks and its own limits.
var (
	busyCodes     = []string{"TooManyInvalidationsInProgress"}
	throttleCodes = []string{"Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded", "RequestThrottled", "SlowDown", "BandwidthLimitExceeded"}
	zoneCodes     = []string{"NoSuchDistribution"}
	authCodes     = []string{
		"AccessDenied", "AccessDeniedException", "AuthFailure", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId",
		"InvalidSignatureException", "MissingAuthenticationToken", "NotAuthorized", "OptInRequired", "SignatureDoesNotMatch", "UnauthorizedOperation", "UnrecognizedClientException",
	}
	clockCodes   = []string{"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
	requestCodes = []string{"InvalidArgument", "BatchTooLarge", "InconsistentQuantities", "MissingBody", "MalformedXML", "MalformedInput", "ValidationError"}
)

// busyPause is how long to wait for invalidations in progress to end, which
// takes up to a minute or two; CloudFront does not say.
const busyPause = 10 * time.Second

// refused is what AWS answered instead of an invalidation.
type refused struct {
	status int
	code   string
	id     string
	after  time.Duration
}

// refusal reads an error of the SDK. The second result is false if there was no
// answer at all.
func refusal(err error, now time.Time) (refused, bool) {
	var r refused
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil {
		r.status = resp.HTTPStatusCode()
		r.after = httpsink.RetryAfter(resp.Response.Header, now)
		if id := resp.ServiceRequestID(); plain(id) {
			r.id = id
		}
	}
	var api smithy.APIError
	if errors.As(err, &api) && plain(api.ErrorCode()) {
		r.code = api.ErrorCode()
	}
	return r, r.status != 0
}

// plain keeps everything out of errors that is no code or id.
func plain(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "-_.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func (r refused) has(codes []string) bool { return slices.Contains(codes, r.code) }

// credentials reports that AWS does not take our credentials.
func (r refused) credentials() bool {
	return r.status < 500 && (r.has(authCodes) || r.code != "" && r.status == http.StatusUnauthorized || r.status == http.StatusForbidden && !r.has(clockCodes))
}

func (r refused) errorf(meaning string) error {
	where := fmt.Sprintf("HTTP %d", r.status)
	if r.code != "" {
		where += ", code " + r.code
	}
	if r.id != "" {
		where += ", request " + r.id
	}
	return fmt.Errorf("cloudfront: %s: %s", where, meaning)
}

// verdict says what a lane can do about a refusal. A server's fault says nothing
// about the request, and a refusal of credentials or of the distribution must
// never count against the invalidations.
func (r refused) verdict() error {
	switch {
	case r.status >= 500 && !r.has(throttleCodes), r.status == http.StatusRequestTimeout:
		return r.errorf("CloudFront is out of order")
	case r.has(busyCodes):
		return sinks.ThrottledError(r.errorf("as many invalidations are in progress as a distribution may have (3000 paths, 15 wildcards)"), busyPause)
	case r.has(throttleCodes), r.status == http.StatusTooManyRequests:
		return sinks.ThrottledError(r.errorf("AWS asks for a pause"), r.after)
	case r.has(zoneCodes):
		return sinks.LaneError(r.errorf("there is no such distribution in this account; check distribution_id and whose credentials these are"))
	case r.has(clockCodes):
		return sinks.LaneError(r.errorf("this machine's clock is wrong; set it"))
	case r.credentials():
		return sinks.LaneError(r.errorf("the credentials are refused; they need cloudfront:CreateInvalidation for this distribution, and must not have expired"))
	case r.has(requestCodes):
		return sinks.RefusalError(r.errorf("CloudFront refuses what the request holds"))
	case r.status >= 300 && r.status < 400:
		return sinks.LaneError(r.errorf("a redirect, which is not followed; check base_url and region"))
	case r.status == http.StatusNotFound, r.status == http.StatusMethodNotAllowed:
		return sinks.LaneError(r.errorf("nothing takes such requests there; check base_url and region"))
	case r.status == http.StatusRequestEntityTooLarge && r.code != "":
		return sinks.RefusalError(r.errorf("CloudFront refuses what the request holds"))
	}
	return r.errorf("the answer is not from CloudFront; a proxy may have given it")
}

// unanswered redacts an error without an answer: the SDK and the credentials'
// providers tell more than a log should.
func unanswered(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("cloudfront: no answer: %w", cause)
	}
	var sent *smithy.SerializationError
	if errors.As(err, &sent) {
		return sinks.ItemError(errors.New("cloudfront: the request cannot be written"))
	}
	return fmt.Errorf("cloudfront: %w", httpsink.Unanswered(ctx, err, 0))
}

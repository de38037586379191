/* bot_detection.c - refuses programs that say who they are (reference/plugins-traffic.md).
 *
 *     allow (passes) -> deny -> the list of bots that everyone knows
 *
 * The list is compiled once for all instances: it does not depend on config.
 */
#include <pthread.h>

#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/pattern.h"
#include "dataplane/plugins/plugin.h"

/* Names of crawlers, wherever they stand. */
#define CRAWLERS                                                                                   \
    "CSimpleSpider|Cityreview Robot|CrawlDaddy|CrawlFire|Finderbots|Index crawler|"                \
    "Job Roboter|KiwiStatus Spider|Lijit Crawler|QuerySeekerSpider|ScollSpider|"                   \
    "Trends Crawler|USyd-NLP-Spider|SiteCat Webbot|BotName/\\$BotVersion|123metaspider-Bot|"       \
    "1470\\.net crawler|50\\.nu|8bo Crawler Bot|Aboundex|Accoona-[A-Za-z]{1,30}-Agent|"            \
    "AdsBot-Google|altavista|AppEngine-Google|archive.{0,30}\\.org_bot|archiver|Ask Jeeves|"       \
    "[Bb]ai[Dd]u[Ss]pider-[A-Za-z]|bingbot|BingPreview|blitzbot|BlogBridge|Bloglovin|"             \
    "BoardReader Blog Indexer|BoardReader Favicon Fetcher|boitho\\.com-dc|BotSeer|BUbiNG|"         \
    "favicon|\\bYeti|Catchpoint|[Cc]harlotte|Checklinks|clumboot|Comodo HTTP\\(S\\) Crawler|"      \
    "Comodo-Webinspector-Crawler|ConveraCrawler|CRAWL-E|CrawlConvera|Daumoa|Feed Seeker Bot|"      \
    "Feedbin|findlinks|Flamingo_SearchEngine|FollowSite Bot|furlbot|Genieo|gigabot|"               \
    "GomezAgent|gonzo1|Googlebot|Google SketchUp|grub-client|gsa-crawler|heritrix|"                \
    "HiddenMarket|holmes|HooWWWer|htdig|ia_archiver|ICC-Crawler|Icarus6j|ichiro|IconSurf|"         \
    "IlTrovatore|InfuzApp|Innovazion Crawler|InternetArchive|IP2[a-z]{1,30}Bot|jbot\\b|"           \
    "KaloogaBot|Kraken|Kurzor|larbin|LEIA|LesnikBot|Linguee Bot|LinkAider|LinkedInBot|"            \
    "Lite Bot|Llaut|lycos|Mail\\.RU_Bot|masscan|masidani_bot|Mediapartners-Google|"                \
    "Microsoft .{0,30} Bot|mogimogi|mozDex|MJ12bot|msnbot|msrbot|"                                 \
    "Mtps Feed Aggregation System|netresearch|Netvibes|NewsGator|^NING|Nutch|Nymesis|"             \
    "ObjectsSearch|OgScrper|Orbiter|OOZBOT|PagePeeker|PagesInventory|PaxleFramework|"              \
    "Peeplo Screenshot Bot|PlantyNet_WebRobot|Pompos|Qwantify|Read%20Later|Reaper|RedCarpet|"      \
    "Retreiver|Riddler|Rival IQ|scooter|Scrapy|Scrubby|searchsight|seekbot|semanticdiscovery|"     \
    "SemrushBot|Simpy|SimplePie|SEOstats|SimpleRSS|SiteCon|Slackbot-LinkExpanding|"                \
    "Slack-ImgProxy|Slurp|snappy|Speedy Spider|Squrl Java|Stringer|TheUsefulbot|"                  \
    "ThumbShotsBot|Thumbshots\\.ru|Tiny Tiny RSS|Twitterbot|WhatsApp|URL2PNG|Vagabondo|"           \
    "VoilaBot|^vortex|Votay bot|^voyager|WASALive.Bot|Web-sniffer|WebThumb|WeSEE:[A-Za-z]|"        \
    "WhatWeb|WIRE|WordPress|Wotbox|www\\.almaden\\.ibm\\.com|Xenu(?:.s)? Link Sleuth|"             \
    "Xerka [A-Za-z]{1,30}Bot|yacy|YahooSeeker|Yahoo! Slurp|Yandex\\w|YodaoBot|YottaaMonitor|"      \
    "Yowedo|^Zao|ZeBot_www\\.ze\\.bz|ZooShot|ZyBorg"

/* What calls itself a bot of some kind; what may stand before it does not matter. */
#define GENERAL "(?:[Aa]rchiver|[Ii]ndexer|[Ss]craper|[Bb]ot|[Ss]pider|[Cc]rawl[a-z]{0,50})[/ ]\\d"

static const char *const known[] = {
    "Pingdom\\.com_bot_version_\\d+\\.\\d+",
    "facebookexternalhit/\\d+\\.\\d+",
    "Google.{0,50}/\\+/web/snippet",
    "Twitterbot/\\d+\\.\\d+",
    "\\b(?:Boto3?|JetS3t|s3fs|aws-cli|"
    "aws-sdk-(?:cpp|go|java|nodejs|ruby2?|dotnet-\\d{1,2}|dotnet-core))/\\d+\\.\\d+",
    " PTST/\\d+\\.?\\d*$",
    "/(?:(?:Ant-)?Nutch|[A-Za-z]{1,50}[Bb]ot|[A-Za-z]{1,50}[Ss]pider|Axtaris|fetchurl|Isara|"
    "ShopSalad|Tailsweep)[ \\-]\\d+",
    "\\b(?:008|Altresium|Argus|BaiduMobaider|BoardReader|DNSGroup|DataparkSearch|EDI|Goodzer|Grub|"
    "INGRID|Infohelfer|LinkedInBot|LOOQ|Nutch|OgScrper|PathDefender|Peew|PostPost|Steeler|"
    "Twitterbot|VSE|WebCrunch|WebZIP|Y!J-BR[A-Z]|YahooSeeker|envolk|sproose|wminer)/\\d+",
    "MSIE \\d+\\.\\d+[a-z0-9]?;.{0,200} MSIECrawler",
    "Google-HTTP-Java-Client|Apache-HttpClient|Go-http-client|scalaj-http|http%20client|"
    "Python-urllib|HttpMonitor|TLSProber|WinHTTP|JNLP|okhttp|aihttp|reqwest|axios|"
    "unirest-(?:java|python|ruby|nodejs|php|net)",
    CRAWLERS,
    GENERAL,
    "[Ss][Pp][Ii][Dd][Ee][Rr]|[Ss]crape|[Cc][Rr][Aa][Ww][Ll]",
};

enum { KNOWN = sizeof known / sizeof *known };

static const struct sb_pattern *bots[KNOWN];

/* For the process: there is nothing in it that a config could change. */
static void compile_known(void)
{
    static struct sb_arena *arena;
    struct sb_err err;
    enum sb_rc rc;

    arena = sb_arena_new(0);
    for (size_t i = 0; i < KNOWN; i++) {
        rc = sb_pattern_new(arena, sb_str_c(known[i]), false, &bots[i], &err);
        sb_assert(!rc);
    }
}

struct list {
    const struct sb_pattern **patterns;
    size_t n;
};

struct config {
    struct list allow, deny;
};

static enum sb_rc list_of(struct sb_arena *a, const struct sb_value *list, struct list *out,
                          struct sb_err *err)
{
    const struct sb_value *item;
    enum sb_rc rc = SB_OK;

    if (!sb_is(list, SB_V_ARRAY))
        return SB_OK;
    out->patterns = SB_NEW_N(a, const struct sb_pattern *, list->count);
    sb_array_each (item, list)
        if (!rc)
            rc = sb_pattern_new(a, item->s, false, &out->patterns[out->n++], err);
    return rc;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct config *c = SB_NEW(in->arena, struct config);
    enum sb_rc rc;

    pthread_once(&once, compile_known);
    rc = list_of(in->arena, sb_get(in->config, "allow"), &c->allow, err);
    if (!rc)
        rc = list_of(in->arena, sb_get(in->config, "deny"), &c->deny, err);
    *out = c;
    return rc;
}

static bool any_fits(const struct sb_pattern *const *patterns, size_t n, struct sb_str agent)
{
    for (size_t i = 0; i < n; i++)
        if (sb_pattern_fits(patterns[i], agent))
            return true;
    return false;
}

struct agents {
    struct sb_str first;
    size_t n;
};

static bool count_agent(void *arg, struct sb_str name, struct sb_str value)
{
    struct agents *a = arg;

    if (!sb_str_ieq(name, SB_STR("User-Agent")))
        return true;
    if (a->n++ == 0)
        a->first = sb_str_trim(value);
    return true;
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct agents agents = {0};

    sb_exchange_each_request_header(x, count_agent, &agents);
    if (agents.n > 1)
        sb_exchange_answer_error(x, 400, SB_STR("Only one User-Agent header allowed"));
    if (agents.n != 1 || any_fits(c->allow.patterns, c->allow.n, agents.first))
        return SB_OK;
    if (any_fits(c->deny.patterns, c->deny.n, agents.first) || any_fits(bots, KNOWN, agents.first))
        sb_exchange_answer_error(x, 403, SB_STR(""));
    return SB_OK;
}

const struct sb_plugin sb_plugin_bot_detection = {
    .name = "bot-detection",
    .priority = 2500,
    .compile = compile,
    .access = run_access,
};

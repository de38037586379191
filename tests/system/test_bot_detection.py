"""bot-detection, beside the recorded cases: who is on the list and who is not."""

import pytest

from gateway import Gateway, Upstream

BROWSERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)",
    "PostmanRuntime/7.39.0", "python-requests/2.32.3", "kube-probe/1.30", "bot", "robot-like 5",
    "a/" * 4000,
]

BOTS = [
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)", "Boto3/1.34.0 Python/3.12",
    "aws-sdk-dotnet-45/3.3.1", "Mozilla/5.0 PTST/210", "Foo/Mybot 2", "Peew/1",
    "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT; MSIECrawler)", "Python-urllib/3.12",
    "Mozilla/5.0 (compatible; Baiduspider-image; x)", "ia_archiver", "AdsBot-Google-Mobile",
    "Mozilla/5.0 YandexBot/3.0", "Some Thing Indexer 2", "CrawlerX 7", "webSPIDER", "Scrapy/2.11",
    "Tiny Tiny RSS/21", "Mozilla/5.0 (compatible; Yahoo! Slurp)", "  WordPress/6.5; https://a.test",
]


@pytest.fixture(scope="module")
def gateway():
    with Upstream() as up, Gateway(config={
            "services": [{"url": f"http://127.0.0.1:{up.port}", "routes": [{"paths": ["/"]}]}],
            "plugins": [{"name": "bot-detection"}]}) as gateway:
        yield gateway


def test_browsers_and_tools_pass(gateway):
    assert {agent: gateway.proxy(headers={"User-Agent": agent}).status_code
            for agent in BROWSERS} == dict.fromkeys(BROWSERS, 200)


def test_bots_are_refused(gateway):
    assert {agent: gateway.proxy(headers={"User-Agent": agent.strip()}).status_code
            for agent in BOTS} == dict.fromkeys(BOTS, 403)

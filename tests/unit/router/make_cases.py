#!/usr/bin/python3
"""make_cases.py DIR > cases.jsonl - from recorded gateway cases to a table for test_router_cases.

The recordings (kcase.py's format) hold configurations, requests, and what the gateway answered. Here
only the router's part is kept: which origin (so: which route) answered, the path it saw, and
X-Forwarded-Prefix. One case a line, so that a difference can be read.
"""
import glob
import json
import os
import re
import sys

import yaml

PROXY_PORT = 8000

# What is not followed, and why.
DEVIATIONS = {
    # Its cache of lookups doesn't know http from https: the 404 is the answer of an https request of
    # the case before, whose routes are the same.
    'expressions-strip: protocols http only: seen by http',
}


def routes_of(config, origin_of):
    """The routes with their defaults, each with its service's path and origin."""
    for service in config.get('services', []):
        if service.get('enabled') is False:
            continue
        url = service.get('url', '')
        origin = origin_of(url or str(service.get('port', '')))
        path = service.get('path') or (re.match(r'\w+://[^/]*(/.*)?', url) or [None, None])[1]
        for route in service.get('routes', []):
            yield dict(route, service_path=path or '', origin=origin)
    for route in config.get('routes', []):
        yield dict(route, service_path='', origin=None)


def request_of(req):
    if 'raw' in req:
        text = req['raw'].encode().decode('unicode_escape').encode('latin-1').decode()
        lines = text.split('\r\n')
        method, target, _ = lines[0].split(' ')
        headers = [h.split(': ', 1) for h in lines[1:] if h]
        host = next((v for k, v in headers if k.lower() == 'host'), '')
        target = re.sub(r'^http://[^/]*', '', target)
    else:
        method, target = req.get('method', 'GET'), req['path']
        headers = [re.split(': ?', h, 1) for h in req.get('headers', [])]
        host = req.get('host', 'localhost')
        if req.get('http') == '2':
            host = req.get('tls', {}).get('sni') or host
    path, _, query = target.partition('?')
    return {
        'method': method, 'path': path, 'query': query, 'host': host, 'headers': headers,
        'https': 'tls' in req, 'sni': req.get('tls', {}).get('sni', '') or '',
        'source': req.get('source', '127.0.0.1'),
    }


def expected_of(expect, trusted):
    status = expect.get('status')
    if status == 400 or status is None:
        return None
    message = (expect.get('json') or {}).get('message', '') if isinstance(expect.get('json'), dict) else ''
    if status == 404:
        return {'match': False}
    if 'no Route matched' in message:
        return {'match': False}
    out = {'match': True}
    up = expect.get('upstream')
    if isinstance(up, dict):
        out['origin'] = up['origin']
        out['path'] = up['line'].split(' ')[1].partition('?')[0]
        if not trusted:  # a trusted client may bring its own
            out['prefix'] = up['headers'].get('x-forwarded-prefix', '')
    elif str(expect.get('body', '')).startswith('origin:'):
        out['origin'] = expect['body'][7:]
    return out


PREFIX = 'Router Expression failed validation: '


def validation_of(step):
    """A route given to the schema, and what the router said of it; None when others objected."""
    admin = step.get('admin', {})
    if admin.get('path') != '/schemas/routes/validate' or 'json' not in admin:
        return None
    expect = step['expect']
    if expect['status'] == 200:
        return {'route': admin['json'], 'error': None}
    errors = expect['json'].get('fields', {}).get('@entity', [])
    words = [e[len(PREFIX):] for e in errors if e.startswith(PREFIX)]
    if not words or words[0].startswith('cannot set'):
        return None
    return {'route': admin['json'], 'error': words[0]}


def main():
    def origin_of(text):
        found = re.search(r'\{\{#?(\w+)\}\}', text)
        return found[1] if found else None

    for file in sorted(glob.glob(os.path.join(sys.argv[1], '*.yaml'))):
        doc = yaml.safe_load(open(file))
        flavor = doc.get('env', {}).get('KONG_ROUTER_FLAVOR', 'traditional_compatible')
        trusted = 'KONG_TRUSTED_IPS' in doc.get('env', {})
        if any('ALLOW_DEBUG' in k for k in doc.get('env', {})):
            continue
        for case in doc['cases']:
            name = os.path.basename(file)[:-5] + ': ' + case['name']
            if name in DEVIATIONS:
                continue
            config = case.get('config') or doc.get('config') or {}
            requests = []
            for step in case['steps']:
                expect = expected_of(step.get('expect') or {}, trusted) if 'request' in step else None
                if expect:
                    requests.append(dict(request_of(step['request']), expect=expect))
            validations = [v for v in map(validation_of, case['steps']) if v]
            text = json.dumps({
                'name': name, 'flavor': flavor,
                'routes': list(routes_of(config, origin_of)), 'requests': requests, 'validations': validations,
            })
            if requests or validations:
                print(text.replace('{{proxy}}', str(PROXY_PORT)).replace('{{#proxy}}', str(PROXY_PORT)))


main()

"""Django: an entry in `INSTALLED_APPS` gives the project a pool, where and as long as it is served.

INSTALLED_APPS = [..., "autocron_web.django"]
AUTOCRON = {"DATABASE": "shop.db", "WORKERS": 2}  # both can be left out
"""

try:
    import django  # noqa: F401 - to say it in a sentence
except ImportError as error:
    raise ImportError("autocron_web.django needs Django: pip install 'autocron-web[django]'") from error

"""Which region a dateline's place belongs to, for bureaux too small to stand alone.

A dateline is either a city known by itself (``PARIS``) or a place with a state
or a country after a comma; then the qualifier decides.
"""

from __future__ import annotations

AMERICAS = """
AMARILLO; ANCHORAGE; ATLANTA; BALTIMORE; BOGOTA; BOSTON; BRASILIA; BUENOS AIRES; CALGARY;
CARACAS; CHICAGO; CINCINNATI; CLEVELAND; DALLAS; DENVER; DES MOINES; DETROIT; DODGE CITY;
EDMONTON; HAVANA; HOUSTON; INDIANAPOLIS; LIMA; LOS ANGELES; MEXICO CITY; MIAMI; MINNEAPOLIS;
MONTREAL; NEW YORK; OMAHA; OTTAWA; PANAMA CITY; PHILADELPHIA; PHOENIX; QUITO; RIO DE JANEIRO;
SAN DIEGO; SAN FRANCISCO; SANTIAGO; SAO PAULO; SEATTLE; ST. LOUIS; TEGUCIGALPA; TORONTO;
UNITED NATIONS; VANCOUVER; WASHINGTON; WINNIPEG
Ala; Alaska; Argentina; Ariz; Ark; Brazil; British Columbia; Calif; California; Colombia;
Colorado; Costa Rica; Ecuador; Fla; Florida; Mexico; Mich; Minn; Mo; N.H; N.J; N.M; New York;
Newfoundland; Nicaragua; Ohio; Pa; Peru; S.C; Surinam; Texas; Va; Venezuela; Vt; Wash; Wis;
Wisconsin
"""

WESTERN_EUROPE = """
AMSTERDAM; ATHENS; BARCELONA; BELFAST; BERLIN; BERNE; BONN; BRUSSELS; CARDIFF; COPENHAGEN;
DUBLIN; ESCHEN; FRANKFURT; GENEVA; GLASGOW; HAMBURG; HELSINKI; INGOLSTADT; LISBON; LONDON;
MADRID; MILAN; MONTE CARLO; NICOSIA; OSLO; PARIS; RENNES; ROME; ROTTERDAM; SPA-FRANCOCHAMPS;
STOCKHOLM; THE HAGUE; VALLETTA; VIENNA; ZURICH
Austria; Belgium; Corsica; Cyprus; England; Faroe Islands; Finland; France; Germany; Ireland;
Italy; Liechtenstein; Netherlands; Norway; Scotland; Sicily; Spain; Sweden; Wales
"""

EASTERN_EUROPE = """
BAKU; BELGRADE; BISTRITA; BRATISLAVA; BUCHAREST; BUDAPEST; CHISINAU; KIEV; LJUBLJANA; MINSK;
MOSCOW; PRAGUE; RIGA; SARAJEVO; SKOPJE; SOFIA; TALLINN; TIRANA; WARSAW; YEREVAN; ZAGREB
Bosnia; Hungary; Moldova; Poland; Russia; Tajikistan; Ukraine
"""

ASIA_PACIFIC = """
AUCKLAND; BALI; BANGKOK; BEIJING; BOMBAY; BRISBANE; CALCUTTA; CANBERRA; COLOMBO; DHAKA;
HONG KONG; ISLAMABAD; JAKARTA; KABUL; KATHMANDU; KUALA LUMPUR; MANILA; MELBOURNE; NEW DELHI;
PHNOM PENH; RANGOON; SEOUL; SHANGHAI; SINGAPORE; SYDNEY; TAIPEI; TOKYO; WELLINGTON
Afghanistan; Australia; Bali; East Timor; India; Japan; Pakistan; South Korea; Thailand
"""

AFRICA_AND_MIDDLE_EAST = """
ABIDJAN; ABU DHABI; ADDIS ABABA; AMMAN; ANKARA; BAGHDAD; BANGUI; BEIRUT; BLANTYRE; CAIRO;
CAPE TOWN; CONAKRY; DAKAR; DAMASCUS; DUBAI; FREETOWN; GAZA; HARARE; ISTANBUL; JERUSALEM;
JOHANNESBURG; KHARTOUM; KIGALI; KINSHASA; LAGOS; LOME; LUANDA; LUSAKA; MANAMA; MAPUTO;
MONROVIA; N'DJAMENA; NAIROBI; NOUAKCHOTT; PORT LOUIS; PRETORIA; RABAT; TEHRAN; TRIPOLI; TUNIS
Iraq; Israel; Lebanon; Morocco; South Africa; Turkey; United Arab Emirates; West Bank
"""

REGIONS = {
    "americas": AMERICAS,
    "western-europe": WESTERN_EUROPE,
    "eastern-europe": EASTERN_EUROPE,
    "asia-pacific": ASIA_PACIFIC,
    "africa-middle-east": AFRICA_AND_MIDDLE_EAST,
}


def _table() -> dict[str, str]:
    names: dict[str, str] = {}
    for region, listing in REGIONS.items():
        for name in listing.replace("\n", ";").split(";"):
            if name.strip():
                names[name.strip()] = region
    return names


_KNOWN = _table()


def region(place: str) -> str | None:
    """The region of a dateline's place, or None where the table does not know it."""
    last = place.rsplit(",", 1)[-1].strip().rstrip(" .")
    return _KNOWN.get(place) or _KNOWN.get(last)
